"""All sites of a partner as CSV, for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from exposure_scan.model.fleet import FleetRow
from exposure_scan.model.text import csv_text, within

from . import words
from .tally import site_link, site_name

_COLUMNS = (
    "site",
    "report",
    "addresses",
    "verdict",
    "why",
    "verdict_before",
    "failures",
    "scanned",
    "not_met",
    "cannot_tell",
    "undeclared",
    "open_ports",
    "new",
    "back",
    "unseen",
    "fixed",
    "still",
    "oldest_breach_days",
    "ends_next",
    "ending",
    "vantage",
    "vantage_checked",
    "vantage_blind",
    "vantage_forged",
)
_MOST_LISTED = 1_000  # characters of a list in a cell


def fleet_csv_rows(rows: Iterable[FleetRow]) -> Iterator[str]:
    """The lines of `render_fleet_csv`, one a site after that of the names, each with its end."""
    line = _Line()
    writer = csv.writer(line, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    yield line.text
    for row in rows:
        writer.writerow(_cells(row))
        yield line.text


def render_fleet_csv(rows: Iterable[FleetRow]) -> str:
    """Every site, one row each, in the order in which they come (RFC 4180); the rows are read once.

    A cell that a spreadsheet would take for a formula begins with an apostrophe; no cell holds a line break.
    """
    file = io.StringIO(newline="")
    file.writelines(fleet_csv_rows(rows))
    return file.getvalue()


class _Line:
    """The last line that was written."""

    text = ""

    def write(self, text: str) -> int:
        self.text = text
        return len(text)


def _cells(row: FleetRow) -> tuple[str | int, ...]:
    turns, vantage = row.turns, row.vantage
    ending = sorted(row.expiring, key=lambda one: one.until)
    told = (f"{one.until.isoformat()} {one.kind} {within(one.title)} ({within(one.by)})" for one in ending)
    checked = vantage.on if vantage and vantage.checked else None
    return (
        csv_text(site_name(row)),
        csv_text(site_link(row)),
        csv_text(" ".join(row.addresses), _MOST_LISTED),
        "not-scanned" if row.verdict is None else row.verdict.value,
        csv_text(row.why),
        "" if row.was is None else row.was.value,
        row.failures,
        "" if row.scanned is None else f"{words.utc(row.scanned):%Y-%m-%dT%H:%M:%SZ}",
        row.not_met,
        row.cannot_tell,
        row.undeclared,
        row.open,
        turns.new,
        turns.back,
        turns.unseen,
        turns.fixed,
        turns.still,
        "" if row.oldest_days is None else row.oldest_days,
        ending[0].until.isoformat() if ending else "",
        csv_text("; ".join(told), _MOST_LISTED),
        csv_text(vantage.name) if vantage else "",
        "" if checked is None else f"{words.utc(checked):%Y-%m-%dT%H:%M:%SZ}",
        csv_text(" ".join(vantage.blind), _MOST_LISTED) if vantage else "",
        csv_text(" ".join(vantage.forged), _MOST_LISTED) if vantage else "",
    )
