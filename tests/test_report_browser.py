"""The report in a real browser: on a phone, at a desk, in the dark, on paper, to a screen reader, without scripts."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import html5lib
import pypdf
import pytest
import samples
import samples_doubt
import samples_evidence
from browser import (
    needs_browser,
    open_all,
    paper,
    picture,
    shown,
    smaller_than,
    started,
    sticking_out,
    violations,
    words_of,
)
from pictures import png, uri

from exposure_scan import history, report
from exposure_scan.model import Scan, Status

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[1]


def html(scan: Scan, *earlier: Scan) -> str:
    past = history.past(scan, map(history.look_of, earlier))
    return report.render(scan, "html", practices=samples.PRACTICES, past=past)


def ago(scan: Scan, days: int, statuses: Mapping[str, Status]) -> Scan:
    """The same site some days before, with these statuses."""
    found = [
        one.model_copy(update={"status": statuses.get(one.practice, one.status), "waived": None})
        for one in scan.findings
    ]
    return scan.model_copy(update={"started": scan.started - timedelta(days=days), "findings": tuple(found)})


def with_history() -> str:
    """Fifteen scans of a year: what changed, and the chart with its table."""
    now = samples.exposed_server()
    turns: tuple[dict[str, Status], ...] = (
        {"sip.not-reachable": Status.MET},
        {"server.stealth": Status.CANNOT_TELL, "software.supported": Status.NOT_MET},
        {"password.users": Status.NOT_MET, "server.nat-firewall": Status.NOT_MET},
    )
    return html(now, *(ago(now, 25 * number, turns[number % 3]) for number in range(1, 15)))


def branded() -> str:
    """The partner's own colour, as pale as it may be, and logo."""
    scan = samples.exposed_server()
    look = {"accent": "#0075de", "logo": uri(png(400, 90))}
    return html(scan.model_copy(update={"partner": {**scan.partner, **look}}))


def index() -> str:
    """The page that links the sites."""
    return report.render_index([(sample.__name__, sample()) for sample in samples.ALL])


def _of(sample: Callable[[], Scan]) -> Callable[[], str]:
    return lambda: html(sample())


EVERY = {sample.__name__: _of(sample) for sample in (*samples.ALL, *samples_doubt.ALL, *samples_evidence.ALL)} | {
    make.__name__: make for make in (with_history, branded, index)
}
NAMES = (
    "exposed_server",
    "silent_site",
    "silent_with_presence",
    "two_hosts",
    "hostile",
    "disputed_device",
    "with_history",
    "branded",
    "index",
)
REPORTS = tuple(name for name in NAMES if name != "index")
ONE_HOST = tuple(name for name in REPORTS if name != "two_hosts")
every_page = pytest.mark.parametrize("name", EVERY)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each page as a file, as its reader opens it."""
    folder = tmp_path_factory.mktemp("pages")
    files = {name: folder / f"{name}.html" for name in NAMES}
    for name, file in files.items():
        file.write_text(EVERY[name](), "utf-8")
    return files


# --- what every reader sees ----------------------------------------------------------------------


@needs_browser
@pytest.mark.parametrize("name", NAMES)
def test_a_phone_shows_everything_without_a_sideways_scroll(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    with shown(browser, pages[name], width=320, height=640) as page:
        picture(page, f"{name}-phone-light")
        assert sticking_out(page) == []
        open_all(page)
        assert sticking_out(page) == []


@needs_browser
@pytest.mark.parametrize("name", NAMES)
def test_a_desk_shows_everything_without_a_sideways_scroll(browser: Browser, pages: dict[str, Path], name: str) -> None:
    with shown(browser, pages[name]) as page:
        picture(page, f"{name}-desk-light")
        open_all(page)
        assert sticking_out(page) == []


@needs_browser
@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("name", ["two_hosts", "with_history", "index"])
def test_no_word_is_too_small_to_read(browser: Browser, pages: dict[str, Path], name: str, width: int) -> None:
    with shown(browser, pages[name], width=width) as page:
        open_all(page)
        assert smaller_than(page, 11) == []


@needs_browser
@pytest.mark.parametrize("name", NAMES)
def test_what_has_a_colour_has_a_word_that_is_shown(browser: Browser, pages: dict[str, Path], name: str) -> None:
    coloured = ".mark, .tiles li, .doors li, .band, .note, .sev, .caution"
    with shown(browser, pages[name], width=320) as page:
        open_all(page)
        texts = page.eval_on_selector_all(coloured, "all => all.map(one => one.innerText)")
    assert texts
    assert [text for text in texts if not re.search(r"[A-Za-z]{2}", text)] == []


@needs_browser
def test_each_bar_of_the_chart_has_its_number_and_its_row_in_the_table(
    browser: Browser, pages: dict[str, Path]
) -> None:
    with shown(browser, pages["with_history"]) as page:
        open_all(page)
        assert page.locator(".chart rect").count() == 7
        assert page.locator(".chart text:not(.day)").count() == 7
        rows = page.locator("#glance ~ details tbody tr")
        assert rows.count() == 7
        assert [text for text in rows.all_inner_texts() if not re.search("GO|INCONCLUSIVE", text)] == []


@needs_browser
@pytest.mark.parametrize("name", ["exposed_server", "hostile", "with_history", "index"])
def test_without_scripts_the_page_shows_the_same(browser: Browser, pages: dict[str, Path], name: str) -> None:
    with shown(browser, pages[name]) as page:
        usual = words_of(page)
    with shown(browser, pages[name], scripts=False) as page:
        assert words_of(page) == usual
    assert len(usual) > 300


@needs_browser
def test_a_closed_practice_opens_without_a_script(browser: Browser, pages: dict[str, Path]) -> None:
    with shown(browser, pages["exposed_server"], scripts=False) as page:
        closed = page.locator("details:not([open])").last
        assert closed.locator(".body").is_hidden()
        closed.locator("summary").click()
        assert page.locator("details").last.locator(".body").is_visible()


@needs_browser
def test_a_page_that_asks_for_anything_or_breaks_its_policy_is_found_out(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "asks.html"
    file.write_text('<title>x</title><img src="beside.png" alt="">')
    with pytest.raises(AssertionError, match="asked for something"), shown(browser, file):
        pass
    policy = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\">"
    file.write_text(f"<head>{policy}<title>x</title></head><script>1</script>")
    with pytest.raises(AssertionError, match="errors in the console"), shown(browser, file):
        pass


# --- to a screen reader, and to eyes that see little ------------------------------------------------


@needs_browser
@pytest.mark.parametrize("name", NAMES)
def test_axe_finds_no_barrier(browser: Browser, pages: dict[str, Path], name: str) -> None:
    found: dict[str, list[str]] = {}
    with shown(browser, pages[name], obeys_policy=False) as page:
        open_all(page)
        found["desk"] = violations(page)
        page.emulate_media(color_scheme="dark")
        picture(page, f"{name}-desk-dark")
        found["dark"] = violations(page)
        page.emulate_media(color_scheme="light", media="print")
        picture(page, f"{name}-print")
        found["print"] = violations(page)
        page.emulate_media(media="screen")
        page.set_viewport_size({"width": 320, "height": 640})
        found["phone"] = violations(page, contrast=False)  # the colours are those of the desk
    assert {view: told for view, told in found.items() if told} == {}


# --- on paper ------------------------------------------------------------------------------------


@needs_browser
@pytest.mark.parametrize("name", ONE_HOST)
def test_on_paper_a_host_takes_twelve_pages_and_nothing_is_left_folded(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    with shown(browser, pages[name]) as page:
        folded = page.eval_on_selector_all(
            "details:not([open]) dd, details:not([open]) li, details:not([open]) td > *",
            "all => all.map(one => one.textContent)",
        )
        a4, letter = (pypdf.PdfReader(io.BytesIO(paper(page, form, f"{name}-{form}"))) for form in ("A4", "Letter"))
    most = 12 if name != "hostile" else 16  # whose every text is as long as a text may be
    assert max(len(a4.pages), len(letter.pages)) <= most
    assert letter.pages[0].mediabox.height < a4.pages[0].mediabox.height
    printed = _letters(" ".join(one.extract_text() for one in a4.pages))
    assert len(folded) > 20
    assert [text for text in folded if _letters(text) not in printed] == []


def _letters(text: str) -> str:
    """Without what lines, drawn symbols and ligatures change in a PDF's text."""
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKC", text).lower())


# --- its grammar -----------------------------------------------------------------------------------


@every_page
def test_a_page_is_valid_html(name: str) -> None:
    html5lib.HTMLParser(strict=True).parse(EVERY[name]())


@every_page
def test_ids_are_single_and_what_refers_to_one_finds_it(name: str) -> None:
    tree = _tree(name)
    ids = [one.attrib["id"] for one in tree.iter() if "id" in one.attrib]
    assert sorted(ids) == sorted(set(ids))
    wanted = {one.attrib[key] for one in tree.iter() for key in ("aria-labelledby", "for") if key in one.attrib}
    wanted |= {one.attrib["href"][1:] for one in tree.iter() if one.attrib.get("href", "").startswith("#")}
    assert wanted - set(ids) == set()


@every_page
def test_headings_go_down_one_step_at_a_time_and_none_is_empty(name: str) -> None:
    headings = [one for one in _tree(name).iter() if re.fullmatch(r"h[1-6]", str(one.tag))]
    levels = [int(str(one.tag)[1]) for one in headings]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert [(one, two) for one, two in pairwise(levels) if two > one + 1] == []
    assert [one for one in headings if not "".join(one.itertext()).strip()] == []


def _tree(name: str) -> Element:
    tree: Element = html5lib.parse(EVERY[name](), namespaceHTMLElements=False)
    return tree
