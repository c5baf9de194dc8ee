"""Scans for the tests of the history: one a day, each with what it found of two practices at two addresses."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import samples

from exposure_scan import history
from exposure_scan.history.store import Store
from exposure_scan.model import Scan, Status

NOW = samples.AT + timedelta(hours=1)
DAY = timedelta(days=1)
PRACTICES = ("sip.not-reachable", "server.stealth")
HOSTS = ("198.51.100.44", "198.51.100.45")
PLAIN = samples.silent_site()
DRAWN = sorted(Status)
FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # each transaction waits for the disk


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def scan_of(number: int, *statuses: Status | None, site: str = "silent-site", days: float | None = None) -> Scan:
    """The scan of a day: the status of each of two practices on each of two hosts; None is not judged."""
    keys = [(practice, host) for practice in PRACTICES for host in HOSTS]
    known = {finding.practice: finding for finding in PLAIN.findings}
    found = [
        known[practice].model_copy(update={"host": host, "status": status})
        for (practice, host), status in zip(keys, statuses, strict=False)
        if status is not None
    ]
    at = samples.AT + DAY * (number if days is None else days)
    return PLAIN.model_copy(
        update={
            "id": f"{site}-{number}",
            "started": at,
            "finished": at + timedelta(seconds=12),
            "site": PLAIN.site.model_copy(update={"name": site}),
            "findings": tuple(found),
        }
    )


def told(scan: Scan, store: Store) -> history.Look:
    return next(look for look in store.looks(scan.site.name, most=10_000) if look.at == scan.started)


def files_of(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def turns(scan: Scan, looks: Sequence[history.Look]) -> object:
    """What `past` says, but for the points of scans that are kept no more."""
    found = history.past(scan, looks)
    return found.changes, found.doors, found.last, found.was, found.came, found.went
