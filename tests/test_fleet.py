"""What a partner sees of all sites at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import samples_fleet as fleets
from pictures import png, uri
from samples import AT
from samples_fleet import GO, INCONCLUSIVE, NO_GO, row
from test_report import Reader, luminance

from exposure_scan.model import Change, Problem, Severity, Status, Turn, Vantage
from exposure_scan.model.fleet import FleetRow, Turns
from exposure_scan.report.fleet import MOST_ROWS, render_fleet

FLEETS: dict[str, Callable[[], list[FleetRow]]] = {
    "mixed": fleets.mixed,
    "customers": lambda: list(fleets.customers()),
    "many": lambda: list(fleets.many(1_300)),
    "hostile": fleets.hostile,
    "none": list,
    "one": lambda: [row("Quiet go")],
}
every_fleet = pytest.mark.parametrize("name", FLEETS)


def page(rows: Iterable[FleetRow], **more: object) -> str:
    return render_fleet(fleets.fleet(rows, **more))


def view(text: str, key: str = "work") -> str:
    """The part of the page that one order shows."""
    return text.split(f'<div class="view v-{key}">')[1].split('<div class="view')[0].split("</section>")[0]


def names(text: str, key: str = "work") -> list[str]:
    """The sites of an order as they stand."""
    return re.findall(r'class="site-name"[^>]*><bdi>(.*?)</bdi>', view(text, key))


def words(text: str) -> str:
    return Reader(text).words


def part(text: str, key: str = "work") -> str:
    """The words of an order."""
    return " ".join(re.sub(r"<[^>]*>", " ", view(text, key)).split())


def work(text: str) -> list[str]:
    """The lines of what needs work."""
    found = text.split('<ol class="work">')[1].split("</ol>")[0].split("<li")[1:] if '<ol class="work">' in text else []
    return [" ".join(re.sub(r"<[^>]*>", " ", f"<li{line}").split()) for line in found]


# --- every page ----------------------------------------------------------------------------------


@every_fleet
def test_the_page_is_balanced_runs_nothing_and_asks_for_nothing_from_elsewhere(name: str) -> None:
    text = page(FLEETS[name](), partner=fleets.PARTNER)
    read = Reader(text)
    tags = {tag for tag, _ in read.tags}
    assert not tags & {"script", "img", "link", "iframe", "object", "embed", "form", "base"}
    attributes = [(name, value or "") for _, attrs in read.tags for name, value in attrs.items()]
    assert [name for name, _ in attributes if name.startswith("on") or name in ("src", "style", "action")] == []
    ids = [value for name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))
    links = [value for name, value in attributes if name == "href"]
    assert [link for link in links if not re.fullmatch(r"#i-[a-z-]+|[A-Za-z0-9_.~%-]+/report\.html", link)] == []
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert "default-src 'none'" in text
    assert "url(" not in text
    assert "@import" not in text


@every_fleet
def test_the_verdicts_add_up_to_the_sites(name: str) -> None:
    rows = FLEETS[name]()
    told = words(page(rows))
    found = re.search(r"What needs work ([\d,]+) NO-GO ([\d,]+) NOT SCANNED ([\d,]+) INCONCLUSIVE ([\d,]+) GO", told)
    assert found is not None
    numbers = [int(number.replace(",", "")) for number in found.groups()]
    assert sum(numbers) == len(rows)
    assert numbers == [[one.verdict for one in rows].count(verdict) for verdict in (NO_GO, None, INCONCLUSIVE, GO)]


def test_the_same_fleet_gives_the_same_bytes() -> None:
    assert page(fleets.mixed()) == page(fleets.mixed())


# --- what needs work -----------------------------------------------------------------------------


def test_what_changed_stands_before_what_did_not_and_the_worst_first() -> None:
    text = page(fleets.mixed())
    fresh, rest = view(text).split("As before")
    assert names(text)[:6] == [
        "Fresh hole",
        "First scan",
        "Failed tonight",
        "Never scanned",
        "Fell silent",
        "Fixed now",
    ]
    assert names(text)[6:] == ["Old hole", "Failing long", "Still silent", "Ends soon", "Quiet go"]
    assert "New or changed" in fresh
    assert "Fixed now" in fresh
    assert "Old hole" in rest


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        (row("z", NO_GO, NO_GO), row("a", None, GO, failures=2)),
        (row("z", None, GO, failures=2), row("a", INCONCLUSIVE, INCONCLUSIVE)),
        (row("z", INCONCLUSIVE, INCONCLUSIVE), row("a")),
        (row("z", GO, NO_GO), row("a", NO_GO, NO_GO)),  # a changed one before any other
        (row("z", turns=Turns(fixed=1)), row("a", NO_GO, NO_GO)),
        (row("z", GO, None), row("a", NO_GO, NO_GO)),  # scanned for the first time
        (row("z", None, GO, failures=1), row("a", NO_GO, NO_GO)),
        (row("z", NO_GO, NO_GO, turns=Turns(back=1)), row("a", NO_GO, NO_GO, turns=Turns(unseen=3))),
        (row("z", NO_GO, NO_GO, not_met=2), row("a", NO_GO, NO_GO, not_met=1, oldest_days=400)),
        (row("z", NO_GO, NO_GO, oldest_days=10), row("a", NO_GO, NO_GO, oldest_days=9)),
        (row("z", expiring=(fleets.ending(-1),)), row("a", expiring=(fleets.ending(1),))),
        (row("z", INCONCLUSIVE, INCONCLUSIVE, cannot_tell=2), row("a", INCONCLUSIVE, INCONCLUSIVE, cannot_tell=1)),
        (row("a"), row("B")),
    ],
)
def test_of_two_sites_the_worse_stands_first(worse: FleetRow, better: FleetRow) -> None:
    for rows in ([worse, better], [better, worse]):
        assert names(page(rows)) == [worse.name, better.name]


def test_the_page_begins_with_what_needs_work() -> None:
    assert work(page(fleets.mixed())) == [
        "1 site shows 3 breaches that the scan before did not show. Fresh hole",
        "3 sites could not be scanned. Failed tonight , Never scanned , Failing long",
        "1 site is in doubt now: what the scan before saw, this one did not settle. Fell silent",
        "2 more sites are NO-GO; the oldest open breach of all is 84 days old, at Old hole. First scan , Old hole",
        "1 site is INCONCLUSIVE, which is no all-clear. Still silent",
        "1 declaration or waiver has ended, at 1 site. Fresh hole",
        "5 declarations and waivers end within 30 days, at 2 sites. Fresh hole , Ends soon",
    ]


def test_every_site_that_is_no_go_unscanned_or_in_doubt_is_counted_as_work_once() -> None:
    rows = list(fleets.many(1_300))
    lines = work(page(rows))[:5]
    counted = sum(int(line.split()[0].replace(",", "")) for line in lines)
    assert counted == len([one for one in rows if one.verdict is not GO])
    assert all(re.search(r"and [\d,]+ more$", line) for line in lines)


def test_a_breach_that_is_no_longer_seen_is_doubt_even_where_the_verdict_is_go() -> None:
    assert "in doubt now" in work(page([row("Dim", turns=Turns(unseen=1))]))[0]


def test_where_nothing_needs_work_the_page_says_what_that_rests_on_and_promises_nothing() -> None:
    text = page([row("Quiet go")])
    assert work(text) == []
    told = words(text)
    assert "Nothing stands out: every site was scanned, none is NO-GO or INCONCLUSIVE, nothing broke" in told
    assert not re.search(r"\b(safe|secure|protected)\b", told, re.IGNORECASE)
    assert "Nothing stands out" not in words(page([row("Quiet go"), row("Dim", None, GO)]))


def test_an_empty_fleet_is_told() -> None:
    told = words(page([]))
    assert "0 sites" in told
    assert "There is no site." in told
    assert "Nothing stands out" not in told


# --- one site ------------------------------------------------------------------------------------


def test_a_row_tells_verdict_changes_numbers_age_and_what_ends() -> None:
    told = part(page(fleets.mixed()[3:4]))
    assert "Fresh hole 198.51.100.10 Scanned 3 November 2026, 03:05 UTC NO-GO was GO" in told
    assert "2 new 1 back again 3 not met 1 cannot tell 13 undeclared, 4 open ports today" in told
    assert "Waiver ended 3 days ago: The server ignores ping (sample owner)" in told
    assert "Declaration ends in 12 days: The admin password is strong (sample technician)" in told


def test_a_site_that_was_not_scanned_says_why_and_passes_no_old_number_off_as_new() -> None:
    rows = [
        row("Failed tonight", None, NO_GO, why="no route to host.", failures=4, not_met=1, turns=Turns(new=7)),
        row("Never", None, None, folder="", addresses=(), scanned=None, points=()),
    ]
    text = page(rows)
    told = part(text)
    assert "NOT SCANNED no route to host; 4 attempts in a row; NO-GO before At the last scan: 1 not met" in told
    assert "Never NOT SCANNED never scanned" in told
    assert "7 new" not in words(text)
    assert told.count("open ports") == 1


def test_only_a_few_addresses_and_endings_of_a_site_are_listed_and_the_rest_counted() -> None:
    addresses = tuple(f"198.51.100.{number}" for number in range(1, 6))
    told = part(page([row("Large", addresses=addresses, expiring=tuple(map(fleets.ending, range(9))))]))
    assert "198.51.100.1, 198.51.100.2 and 3 more" in told
    assert "ends in 2 days: The server ignores ping (sample owner) and 6 more" in told


def test_the_trend_is_drawn_and_told_in_words() -> None:
    rows = [row("Trend", points=fleets.points(3, 0, 8, -1)), row("New here", GO, None, points=fleets.points(0))]
    drawings = [attrs for tag, attrs in Reader(page(rows)).tags if tag == "svg" and attrs.get("role") == "img"]
    (drawing,) = drawings
    said = "Practices not met at the last 4 scans, the oldest first: 3, 0, 8, 0 (inconclusive)"
    assert drawing["aria-label"] == said
    full, hollow = re.findall(r'<path class="(?:full|hollow)" d="(.*?)"/>', page(rows))
    assert [int(height) for height in re.findall(r"M\d+ 22v-(\d+)", full)] == [7, 1, 18]
    assert hollow.startswith("M26 ")  # at the fourth place, and not as if nothing were broken
    assert int(re.findall(r"v-(\d+)", hollow)[0]) > 1


def test_the_trend_holds_at_most_twelve_scans() -> None:
    assert "at the last 12 scans, the oldest first: 8, 9," in page([row("Long", points=fleets.points(*range(20)))])


def test_one_breach_does_not_look_like_ten() -> None:
    one, ten = (page([row("Trend", points=fleets.points(0, number))]) for number in (1, 10))
    heights = [max(int(found) for found in re.findall(r"22v-(\d+)", text)) for text in (one, ten)]
    assert heights[0] < heights[1] / 3


def test_turns_are_counted_from_the_changes_of_the_history() -> None:
    kinds = [Turn.NEW, Turn.NEW, Turn.BACK, Turn.STILL, Turn.FIXED, Turn.UNSEEN, Turn.UNSEEN, Turn.OTHER]
    changes = [
        Change(
            turn=turn,
            practice="sip.not-reachable",
            host="198.51.100.10",
            title="SIP",
            severity=Severity.CRITICAL,
            was=None,
            now=Status.NOT_MET,
            since=AT,
        )
        for turn in kinds
    ]
    assert Turns.of(changes) == Turns(new=2, back=1, still=1, fixed=1, unseen=2)


def test_what_became_of_the_practices_is_added_up_over_all_sites() -> None:
    assert "2 new 1 back again 0 no longer seen 3 fixed 2 still broken" in words(page(fleets.mixed()))


# --- other orders --------------------------------------------------------------------------------


def test_other_orders_are_chosen_without_a_script_and_each_list_is_there() -> None:
    text = page(fleets.mixed())
    radios = [attrs for tag, attrs in Reader(text).tags if tag == "input"]
    assert {radio["type"] for radio in radios} == {"radio"}
    assert {radio["name"] for radio in radios} == {"order"}
    assert ["checked" in radio for radio in radios] == [True, False, False, False, False]
    css = text.split("<style>")[1].split("</style>")[0]
    for radio in radios:
        key = str(radio["id"]).removeprefix("o-")
        assert f"section:has(#o-{key}:checked) .v-{key}" in css
        assert f'<div class="view v-{key}">' in text
    assert "<legend>Order</legend>" in text
    assert len(re.findall(r"<label><input [^>]*>[A-Z][a-z ]+</label>", " ".join(text.split()))) == len(radios)


def test_each_order_is_in_order() -> None:
    text = page([*fleets.mixed(), row("older scan", scanned=AT.replace(day=1))])
    assert names(text, "name") == sorted(names(text), key=str.casefold)
    assert names(text, "age") == ["Old hole", "Failed tonight", "Fresh hole", "First scan"]
    assert names(text, "end") == ["Fresh hole", "Ends soon"]
    assert names(text, "scan")[:2] == ["Never scanned", "older scan"]
    assert sorted(names(text, "scan")) == sorted(names(text))
    assert "8 more sites on this page have none." in part(text, "age")
    assert "3 November 2026. Waiver ends today: The server ignores ping (sample owner); and 3 more" in part(text, "end")


# --- where the scans looked from -----------------------------------------------------------------


def test_a_vantage_that_is_blind_or_was_not_checked_is_told_with_its_sites() -> None:
    blind = fleets.VANTAGE.model_copy(update={"blind": ("tcp/25",), "forged": ("udp/53",)})
    other = Vantage(name="desk", outside=False)
    rows = [row("a"), row("b", vantage=blind), row("c", vantage=other)]
    told = words(page(rows)).split("Where the scans looked from")[1]
    assert "sample vantage : 2 sites Checked on 1 November 2026. Not reachable from it: tcp/25." in told
    assert "Somebody else answers on: udp/53." in told
    assert "desk : 1 site Nobody had checked it when 1 site of 1 were scanned from it." in told
    assert "no outside view" in told


# --- many sites ----------------------------------------------------------------------------------


def test_of_many_sites_the_page_holds_those_that_matter_and_says_how_many_it_leaves_out() -> None:
    number = 3_000
    text = page(fleets.many(number))
    listed = names(text)
    assert len(listed) == MOST_ROWS == 500
    told = words(text)
    assert "The 500 sites that matter most are listed here; 2,500 more are left out." in told
    assert "fleet.csv beside this page holds every site" in told
    assert f"{number:,} sites As of" in told
    fresh = sum(not one.name.startswith(("Old", "Failing", "Still", "Ends", "Quiet")) for one in fleets.many(number))
    headings = [" ".join(re.sub("<[^>]*>", "", found).split()) for found in re.findall("<h3>(.*?)</h3>", view(text))]
    assert headings == [f"New or changed ({fresh:,}, 500 listed)", f"As before ({number - fresh:,}, 0 listed)"]
    assert {name.rsplit(" ", 1)[0] for name in listed} == {"Fresh hole", "First scan"}
    assert len(text) < 3_000_000


def test_of_few_sites_nothing_is_left_out() -> None:
    text = page(fleets.many(MOST_ROWS))
    assert len(names(text)) == MOST_ROWS
    assert "left out" not in text


def test_rows_are_read_once_and_let_go() -> None:
    alive = most = 0

    class Held:
        """A link in a chain to a row: it is there as long as the row is."""

        def __init__(self) -> None:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def rows() -> Iterator[FleetRow]:
        for one in fleets.many(2_000):
            yield replace(one, points=(Held(),))  # type: ignore[arg-type]

    page(rows())
    assert most <= MOST_ROWS + 5


# --- the look ------------------------------------------------------------------------------------


def test_the_partner_s_look_is_that_of_the_reports() -> None:
    logo = uri(png(), "image/png")
    text = page([row("Quiet go")], partner={"name": "Sample Partner", "accent": "#1c4f9c", "logo": logo})
    assert ".branded{background:#1c4f9c}" in text
    (image,) = [attrs for tag, attrs in Reader(text).tags if tag == "img"]
    assert (image["src"], image["alt"]) == (logo, "Sample Partner")
    assert "branded{background" not in page([row("Quiet go")], partner={"accent": "#ffcc00"})


def test_a_partner_s_own_template_is_taken_and_its_mistakes_are_named(tmp_path: Path) -> None:
    (tmp_path / "fleet.html.j2").write_text("<p>{{ fleet.groups[0].rows[0].name }}</p>")
    assert render_fleet(fleets.fleet([row("<b>")]), tmp_path) == "<p>&lt;b&gt;</p>"
    (tmp_path / "fleet.html.j2").write_text("\n{{ fleet.no_such_thing }}")
    with pytest.raises(Problem, match=r"fleet\.html\.j2, line 2: .*no_such_thing"):
        render_fleet(fleets.fleet([]), tmp_path)


def test_no_state_is_told_by_colour_alone() -> None:
    """Whatever has a tone stands beside its word, and its drawing is one of the page's."""
    for mark in re.findall(r'<span class="mark [a-z]+">(.*?)</span>', view(page(fleets.mixed()))):
        assert re.fullmatch(r'<svg class="icon" [^>]*><use href="#i-[a-z-]+"/></svg>[A-Z0-9-][A-Z0-9 -]*', mark)
    for tone, told in re.findall(r'<tr class="([a-z]+)">(.*?)</tr>', view(page(fleets.mixed())), re.S):
        words_of = {"bad": ("NO-GO",), "unsure": ("NOT SCANNED", "INCONCLUSIVE"), "good": (">GO<", "</svg>GO")}
        assert any(word in told for word in words_of[tone])


def test_the_page_uses_only_colours_that_were_judged_and_each_pair_has_contrast() -> None:
    text = page(fleets.mixed())
    css = text.split("<style>")[1].split("</style>")[0]
    own = css.split(".fleet,")[1]
    assert re.findall(r"#[0-9a-f]{3,6}\b", own) == []  # named ones only, so that dark and print follow
    schemes = [
        dict(re.findall(r"--([a-z-]+):(#[0-9a-f]+)", block)) for block in re.findall(r":root\{(.*?)\}", css, re.S)
    ]
    assert len(schemes) == 3  # light, dark, print
    for scheme in schemes:
        colours = schemes[0] | scheme
        used = set(re.findall(r"var\(--([a-z-]+)\)", own))
        assert used <= set(colours)
        for ink, ground in (
            ("told", "told-fill"),
            ("ink", "card"),
            ("soft", "card"),
            ("bad", "card"),
            ("unsure", "card"),
        ):
            light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)
