"""By which rules a scan was judged, and what today's rules say of old evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import date
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from exposure_scan.model import Scan, Status

_RULES = ("fingerprints", "practices", "software.toml")  # of the data folder


@cache
def digest() -> str:
    """SHA-256, hex, of the practices and fingerprints that this program judges by."""
    summed = hashlib.sha256()
    for name, data in sorted(_contents(files("exposure_scan") / "data")):
        summed.update(f"{name} {len(data)}\n".encode() + data)
    return summed.hexdigest()


def _contents(folder: Traversable) -> Iterator[tuple[str, bytes]]:
    for name in _RULES:
        part = folder / name
        for file in part.iterdir() if part.is_dir() else (part,):
            if file.name.endswith(".toml"):
                yield f"{name}/{file.name}", file.read_bytes()


def judged_otherwise(scan: Scan) -> bool:
    """Whether the scan was judged by other rules than today's."""
    return scan.scanner.rules not in (None, digest())


def changed(scan: Scan, now: Scan) -> list[str]:
    """What the rules of `now` say otherwise than the scan, on the same evidence; a sentence each."""
    found = []
    day = scan.started.date()
    if scan.verdict != now.verdict:
        found.append(f"The verdict was {scan.verdict}; by today's rules it is {now.verdict}.")
    for then, host in zip(scan.hosts, now.hosts, strict=True):
        if then.device.class_ != host.device.class_:
            found.append(f"{then.address} was taken for {then.device.class_}; it is {host.device.class_}.")
    before = {(finding.practice, finding.host): finding.status for finding in scan.findings}
    for finding in now.findings:
        was = before.pop((finding.practice, finding.host), None)
        if was != finding.status:
            said = f"was {was}" if was else "was not asked for"
            found.append(
                f"{finding.practice} on {finding.host} {said}; it is {finding.status}.{_since(finding.status, day)}"
            )
    found += [f"{practice} on {host} is no longer asked for." for practice, host in before]
    return found


def _since(status: Status, day: date) -> str:
    return f" Exposed since {day:%Y-%m-%d} at the latest, as its evidence shows." if status is Status.NOT_MET else ""
