"""What people read of a scan: every format, a site's folder, and the page that links the sites."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from exposure_scan import assess, files, history, report
from exposure_scan.model import Past, Problem, Scan

if TYPE_CHECKING:  # a report of a saved scan needs no sockets
    from .scanning import Result


def render(scan: Scan, format_: str, *, earlier: Iterable[Scan] = (), templates: Path | None = None) -> bytes:
    """The scan in one of `report.FORMATS`, held against `earlier` ones of its site; text in UTF-8.

    Raises:
        Problem: there is no such format, an earlier scan is of another site, or a template of `templates` is wrong.
    """
    compared = history.past(scan, map(history.look_of, earlier))
    return report.render_bytes(scan, format_, practices=practice_texts(), past=compared, templates=templates)


def render_index(scans: Sequence[tuple[str, Scan]]) -> str:
    """The page that links the reports of several sites, each in the folder of the given name."""
    return report.render_index(scans)


def write_bundle(path: Path, result: Result) -> None:
    """Write the bundle that `verify` reads, whole or not at all.

    Raises:
        Problem: it cannot be written, or the record of a TLS session in it is damaged.
    """
    from exposure_scan import evidence

    scan = result.scan
    how = "none" if result.capture is None else scan.capture
    bundle = evidence.Bundle(scan.to_json(), result.capture, how, result.keys)
    try:
        sessions = evidence.tls_sessions(scan)
    except ValueError as error:
        raise Problem(f"{path} cannot be written, for the scan's evidence is damaged ({error}).") from None
    evidence.write_bundle(path, bundle, sessions, masked=scan.redacted)


def write_site(folder: Path, result: Result, past: Past | None = None) -> None:
    """Write one site's folder: scan.json, report.html and evidence.zip, each whole or not at all.

    Args:
        folder: made where it is not there; it is its owner's alone.
        result: the scan, with its packets.
        past: how it stands against earlier scans; by default it is the first.

    Raises:
        Problem: a file cannot be written, or something else stands at the folder's place.
    """
    from exposure_scan import evidence

    files.make_own_folder(folder)
    scan = result.scan
    files.write_file(folder / evidence.SCAN, scan.to_json())
    page = report.render(scan, "html", practices=practice_texts(), past=past or history.past(scan, ()))
    files.write_file(folder / evidence.REPORT, page)
    write_bundle(folder / evidence.BUNDLE, result)


def practice_texts() -> tuple[report.PracticeText, ...]:
    """What a report tells of each practice beside the finding."""
    return tuple(
        report.PracticeText(
            id=practice.id,
            title=practice.title,
            why=practice.why,
            part=practice.part,
            menu_path=practice.menu_path,
            known=practice.known,
        )
        for practice in assess.practices()
    )
