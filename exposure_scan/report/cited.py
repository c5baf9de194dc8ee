"""Which evidence a finding rests on, and in which packets of the capture that stands."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from exposure_scan.model import Evidence, Finding, Scan, Status
from exposure_scan.model.text import terminal_text

from . import words
from .proof import by_id, frames_of

if TYPE_CHECKING:
    from rich.console import RenderableType

_MOST_IDS = 8
_ID = re.compile(r"e([0-9]{1,9})")


def contents(scan: Scan) -> RenderableType:
    """Which evidence each finding rests on, and in which packets of the capture it stands."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    kept = by_id(scan)
    place = {id_: number for number, id_ in enumerate(kept)}
    rows = [
        (finding, [kept[id_] for id_ in sorted(cited, key=place.__getitem__)])
        for finding in scan.findings
        if (cited := kept.keys() & set(finding.evidence))
    ]
    if not rows:
        return Text("No finding of this scan rests on evidence.")
    several = len(scan.hosts) > 1
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=False)
    for name in ("Finding", *["Host"] * several, "Status", "Evidence", *["Frames"] * (scan.capture != "none")):
        table.add_column(name, overflow="fold", no_wrap=name in ("Finding", "Host", "Status"))
    for finding, pieces in rows:
        mark = words.STATUSES[finding.status]
        row = [terminal_text(finding.practice), *[terminal_text(finding.host, 45)] * several]
        row += [f"{mark.symbol} {mark.word}", _ids(piece.id for piece in pieces)]
        row += [frames_of(pieces, scan).partition(" ")[2]] * (scan.capture != "none")
        table.add_row(*(Text(cell) for cell in row))
    return table


def chosen(scan: Scan, name: str) -> tuple[tuple[Finding, ...], tuple[Evidence, ...]]:
    """The findings and the evidence that a word of the user's names: a practice's id, or that of one piece.

    A finding that was left open brings every attempt at the same ports, so that the silence can be seen.
    Both are empty where nothing bears the name.
    """
    kept = by_id(scan)
    if name in kept:
        return (), (kept[name],)
    findings = tuple(finding for finding in scan.findings if finding.practice == name)
    cited = {id_ for finding in findings for id_ in finding.evidence}
    left_open = {id_ for finding in findings if finding.status is Status.CANNOT_TELL for id_ in finding.evidence}
    doors = {_door(kept[id_]) for id_ in left_open & kept.keys() if not kept[id_].ports}
    return findings, tuple(piece for id_, piece in kept.items() if id_ in cited or _door(piece) in doors)


def _door(piece: Evidence) -> tuple[str, str, int]:
    return piece.address, piece.kind, piece.port


def _ids(ids: Iterable[str]) -> str:
    """``e2-e13, e15``, with a dash: neighbours together."""
    runs: list[list[str]] = []
    for id_ in ids:
        if runs and _follows(runs[-1][-1], id_):
            runs[-1] = [runs[-1][0], id_]
        else:
            runs.append([id_])
    shown = ["\N{EN DASH}".join(dict.fromkeys(terminal_text(id_, 20) for id_ in run)) for run in runs[:_MOST_IDS]]
    return ", ".join(shown) + (f" and {len(runs) - _MOST_IDS} more" if len(runs) > _MOST_IDS else "")


def _follows(before: str, id_: str) -> bool:
    match = [_ID.fullmatch(one) for one in (before, id_)]
    return match[0] is not None and match[1] is not None and int(match[1][1]) == int(match[0][1]) + 1
