"""The CSV of all sites, and what a hostile site cannot do to it and to the page."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator

import samples_fleet as fleets
from samples import HOSTILE
from samples_fleet import row
from test_fleet import names, page, view

from exposure_scan.model.fleet import FleetRow
from exposure_scan.report.fleet_csv import fleet_csv_rows, render_fleet_csv

# --- the CSV -------------------------------------------------------------------------------------


def read_csv(rows: Iterable[FleetRow]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(render_fleet_csv(rows), newline=""), strict=True))


def test_the_csv_holds_every_site_in_full() -> None:
    rows = list(fleets.many(1_300))
    found = read_csv(rows)
    assert [one["site"] for one in found] == [one.name for one in rows]
    fresh, failing = found[3], found[4]
    assert (fresh["verdict"], fresh["verdict_before"], fresh["not_met"], fresh["open_ports"]) == (
        "no-go",
        "go",
        "3",
        "4",
    )
    assert (fresh["new"], fresh["back"], fresh["fixed"], fresh["oldest_breach_days"]) == ("2", "1", "0", "0")
    assert fresh["report"] == "fresh-hole-3/report.html"
    assert fresh["scanned"] == "2026-11-03T03:05:00Z"
    assert fresh["ends_next"] == "2026-10-31"
    assert fresh["ending"].startswith(
        "2026-10-31 waiver The server ignores ping (sample owner); 2026-11-15 declaration"
    )
    assert (fresh["vantage"], fresh["vantage_checked"]) == ("sample vantage", "2026-11-01T14:05:00Z")
    assert (failing["verdict"], failing["why"], failing["failures"]) == ("not-scanned", "The consent has expired.", "4")


def test_the_csv_is_written_while_the_sites_are_read() -> None:
    taken = 0

    def rows() -> Iterator[FleetRow]:
        nonlocal taken
        for one in fleets.many(1_000):
            taken += 1
            yield one

    for written, line in enumerate(fleet_csv_rows(rows())):
        assert taken == written
        assert line.endswith("\r\n")
    assert taken == 1_000


def test_every_row_of_the_csv_is_one_line_and_no_cell_is_a_formula() -> None:
    rows = fleets.hostile()
    text = render_fleet_csv(rows)
    assert len(text.split("\r\n")) == len(rows) + 2
    for one in read_csv(rows):
        for cell in one.values():
            assert not cell.startswith(("=", "+", "-", "@", "\uff1d", "\t", "\r"))
            assert {unicodedata.category(char) for char in cell} & {"Cc", "Cf", "Cs", "Co"} == set()
            assert len(cell) <= 1_001


# --- hostile text --------------------------------------------------------------------------------


def test_hostile_text_is_escaped_and_cut() -> None:
    text = page(fleets.hostile(), partner={"name": HOSTILE, "accent": "red;}", "logo": "javascript:x"})
    bad = {char for char in text if char != "\n" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co")}
    assert bad == set()
    assert "<script" not in text
    assert "<img" not in text
    assert "owned" not in text
    assert "A" * 1000 not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "{{7*7}}" in text
    assert "(cut)" in text
    assert "red;}" not in text


def test_a_link_leads_to_a_site_s_folder_and_nowhere_else() -> None:
    folders = ("../..//x?y=<b>", "javascript:x", "..", ".", "", "Zürich", "a#b")
    links = re.findall(r'href="([^#"]*)"', view(page([row(f"{n}", folder=folder) for n, folder in enumerate(folders)])))
    assert links == [
        "..%2F..%2F%2Fx%3Fy%3D%3Cb%3E/report.html",
        "javascript%3Ax/report.html",
        "Z%C3%BCrich/report.html",
        "a%23b/report.html",
    ]


def test_a_link_is_never_without_a_name() -> None:
    assert names(page([row("\u200b", folder="a-b"), row("", folder="")])) == ["unnamed site", "a-b"]
