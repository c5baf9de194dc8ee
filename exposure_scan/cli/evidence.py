"""The command that shows the evidence of a saved scan, and cuts it out of the capture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .screen import say, show

if TYPE_CHECKING:
    from exposure_scan.model import Evidence, Scan

_ZIP = b"PK"
_MOST_IDS = 40  # of practices, in one sentence


def evidence_command(
    saved: Annotated[Path, typer.Argument(metavar="SCAN", help="A saved scan.json, or an evidence.zip.")],
    finding: Annotated[
        str | None,
        typer.Option(
            help="What to show: a practice such as sip.not-reachable, or one piece such as e12.", metavar="ID"
        ),
    ] = None,
    pcap: Annotated[
        Path | None,
        typer.Option(help="Write the packets of what is shown into a capture of their own.", metavar="FILE"),
    ] = None,
    customer_copy: Annotated[
        Path | None,
        typer.Option(
            help="Write a bundle for the customer: nonces, host names and serials masked, the findings as they are.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Show what was said and when, behind each finding; without --finding, which evidence there is."""
    from exposure_scan import files
    from exposure_scan.model import Problem
    from exposure_scan.model.text import quoted, within
    from exposure_scan.report.cited import chosen, contents
    from exposure_scan.report.dialogue import dialogue

    scan, capture = _read(saved)
    if customer_copy is not None:
        _copy(scan, customer_copy)
        if finding is None and pcap is None:
            return
    if finding is None:
        if pcap is not None:
            raise Problem("--pcap needs --finding ID, which says what to cut out; the bundle holds the whole capture.")
        show(contents(scan))
        return
    findings, pieces = chosen(scan, finding)
    if not findings and not pieces:
        practices = ", ".join(dict.fromkeys(within(one.practice) for one in scan.findings[:_MOST_IDS]))
        raise Problem(
            f"{saved} has no finding and no evidence {quoted(finding)}. It has these findings: "
            f"{practices or 'none'}; and {len(scan.evidence):,} pieces of evidence, such as "
            f"{within(scan.evidence[0].id, 20) if scan.evidence else 'none'}."
        )
    if pcap is not None:
        files.check_writable(pcap)
        part, number = _cut(saved, capture, pieces)
        files.write_file(pcap, part)
    show(dialogue(scan, findings, pieces))
    if pcap is not None:
        say("", f"Written: {pcap} ({number:,} packets)")


def _copy(scan: Scan, path: Path) -> None:
    from exposure_scan import files, sweep
    from exposure_scan.sweep.redacted import customer_copy

    files.check_writable(path)
    sweep.write_bundle(path, customer_copy(scan))
    say(f"Written: {path}, with nonces, host names and serials masked. It verifies as the original does.")


def _read(path: Path) -> tuple[Scan, bytes | None]:
    """The scan of a file, and the capture where the file is a bundle that has one."""
    from exposure_scan import evidence, report
    from exposure_scan.model import Problem

    try:
        with path.open("rb") as file:
            packed = file.read(len(_ZIP)) == _ZIP
        if packed:
            bundle = evidence.read_bundle(path)
            text, capture = bundle.scan, bundle.capture
        else:
            text, capture = path.read_text("utf-8"), None
    except OSError as error:
        raise Problem(f"{path} cannot be read ({error.strerror}); give a saved scan or an evidence.zip.") from None
    except UnicodeDecodeError:
        raise Problem(f"{path} is neither a saved scan nor an evidence.zip; give one of them.") from None
    except ValueError as error:
        raise Problem(f"{error}. The evidence was changed or damaged; take an undamaged copy.") from None
    try:
        return report.load_scan(text), capture
    except Problem as problem:
        raise Problem(*(f"{path}: {sentence}" for sentence in problem.sentences)) from None


def _cut(saved: Path, capture: bytes | None, pieces: tuple[Evidence, ...]) -> tuple[bytes, int]:
    """The packets of the pieces, and how many they are."""
    from exposure_scan.model import Problem
    from exposure_scan.model.ranges import joined_ranges, read_ranges
    from exposure_scan.transport.pcap import cut

    if capture is None:
        raise Problem(f"{saved} holds no capture; --pcap needs an evidence.zip with one.")
    try:
        frames = joined_ranges(one for piece in pieces for one in read_ranges(piece.frames))
        part = cut(capture, frames)
    except ValueError as error:
        raise Problem(f"{saved}: {error}. The evidence and its capture do not fit together.") from None
    if not frames:
        raise Problem(f"{saved} does not say which packets are meant; only scans that number them can be cut.")
    return part, sum(map(len, frames))
