"""What a reader of a report sees, and what an attacker who writes its texts cannot do."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
import samples
import samples_doubt
import samples_evidence

from exposure_scan import report
from exposure_scan.model import Echo, PortState, Problem, Scan, Status, Vantage, Verdict
from exposure_scan.model.text import html_text, terminal_text
from exposure_scan.report import templates as pages

Sample = Callable[[], Scan]
every_sample = pytest.mark.parametrize(
    "sample", [*samples.ALL, *samples_doubt.ALL, *samples_evidence.ALL], ids=lambda sample: sample.__name__
)
VOID = {"meta", "br", "img", "link", "input", "hr", "use", "path", "circle", "ellipse"}


def html(scan: Scan) -> str:
    return report.render(scan, "html", practices=samples.PRACTICES)


class Reader(HTMLParser):
    """Checks that elements are balanced, and collects text, tags, attributes and ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []
        self.words = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without a start"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text.append(data)


# --- every page ----------------------------------------------------------------------------------


def both_pages(sample: Sample) -> list[str]:
    return [html(sample()), report.render_index([("some-site", sample())])]


@every_sample
def test_a_page_is_balanced_and_asks_for_nothing_from_elsewhere(sample: Sample) -> None:
    for text in both_pages(sample):
        read = Reader(text)
        names = {tag for tag, _ in read.tags}
        assert not names & {"script", "img", "link", "iframe", "object", "embed", "form", "base"}
        attributes = [(name, value or "") for _, attrs in read.tags for name, value in attrs.items()]
        assert [name for name, _ in attributes if name.startswith("on") or name in ("src", "style")] == []
        links = [value for name, value in attributes if name == "href"]
        assert [
            link for link in links if not re.fullmatch(r"#[ip]-[a-z-]+|#e[0-9]+|some-site/report\.html", link)
        ] == []
        ids = [value for name, value in attributes if name == "id"]
        assert len(ids) == len(set(ids))
        assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
        assert "url(" not in text
        assert "@import" not in text
        assert "default-src 'none'" in text


@every_sample
def test_the_same_scan_gives_the_same_bytes(sample: Sample) -> None:
    assert html(sample()) == html(sample())
    assert report.render(sample(), "json", practices=()) == sample().to_json()


@every_sample
def test_a_page_stays_small(sample: Sample) -> None:
    assert len(html(sample()).encode()) < 100_000 * len(sample().hosts)


@every_sample
def test_every_practice_and_every_status_is_told_in_words(sample: Sample) -> None:
    scan = sample()
    words = Reader(html(scan)).words
    for finding in scan.findings:
        assert finding.practice in words
    for word in ("Not met", "Cannot tell", "Undeclared", "Declared", "Met", "Not applicable"):
        assert word in words


def test_the_page_names_the_json_that_it_was_made_from() -> None:
    scan = samples.exposed_server()
    assert hashlib.sha256(scan.to_json().encode()).hexdigest() in html(scan)


# --- what the verdict says -----------------------------------------------------------------------


def test_a_no_go_says_what_is_open_who_fixes_it_and_what_to_do() -> None:
    words = Reader(html(samples.exposed_server())).words
    assert "NO-GO 5 important security practices are broken" in words
    assert "Do not go live like this" in words
    assert "Sample Partner, together with" in words
    assert "Open (5): answers anyone tcp/25 SMTP tcp/143 IMAP tcp/8080 HTTP udp/5060 SIP ping" in words
    assert "Made by the device itself (self-signed)" in words
    assert "said by 198.51.100.1" in words
    assert "sample owner accepted this until 2026-12-01" in words
    assert "Network \u203a Configuration" in words
    assert "pbx.sample.example" in words
    assert "could not be measured, and nothing is known of them: udp/161" in words


def test_a_go_names_what_it_rests_on_and_promises_nothing() -> None:
    words = Reader(html(samples.silent_with_presence())).words
    assert "GO At the time of the scan, nothing seen from outside broke" in words
    assert "What this rests on Seen from outside at the time of this scan" in words
    assert "sample technician confirmed on 3 November 2026, 14:05 UTC (saw the address on the router's page)" in words
    assert "a person's word, not a measurement" in words
    assert "15 were declared by nobody" in words
    assert "declared by the operator; the scan did not show it" in words
    assert not re.search(r"\b(safe|secure|protected)\b", words, re.IGNORECASE)


def test_a_go_with_a_waiver_says_that_something_was_accepted() -> None:
    scan = samples.exposed_server()
    waiver = scan.site.waivers[0]
    waived = tuple(finding.model_copy(update={"waived": waiver}) for finding in scan.findings)
    words = Reader(html(scan.model_copy(update={"findings": waived, "verdict": Verdict.GO}))).words
    assert "no important practice is broken, apart from 5 that somebody accepted" in words


def test_silence_is_inconclusive_and_the_first_step_is_to_find_out() -> None:
    words = Reader(html(samples.silent_site())).words
    assert "INCONCLUSIVE Nothing at this address answered" in words
    assert "no all-clear" in words
    first = words.split("What to do, in this order")[1].split("Why:")[0]
    assert "Make sure that the site is there" in first
    assert "No open port was seen" not in words  # the watched ports are listed, with their silence
    assert "no answer after 3 tries" in words


def test_what_is_broken_comes_before_what_is_in_doubt_and_five_steps_are_enough() -> None:
    text = html(samples.two_hosts())
    steps = re.findall(r"<h3>(.*?)</h3>", text.split('id="todo"')[1].split("</ol>")[0])
    assert len(steps) == 5
    assert steps[0] == "SIP cannot be reached from outside"
    assert "Make sure that the site is there" not in steps


def test_an_inside_scan_says_so_in_the_verdict_box() -> None:
    inside = samples.silent_site().model_copy(update={"vantage": Vantage(name="desk", outside=False)})
    box = html(inside).split('<section class="verdict')[1].split("</section>")[0]
    assert "This is no outside view: the scan ran inside the site&#39;s network." in box


def test_several_hosts_have_a_section_each() -> None:
    words = Reader(html(samples.two_hosts())).words
    assert "What was scanned: 198.51.100.10" in words
    assert "What was scanned: 198.51.100.44" in words
    assert "Every practice: 198.51.100.44" in words


def test_a_bare_handshake_behind_a_middlebox_is_no_open_door() -> None:
    scan = samples.silent_site()
    changed = (samples.port("tcp", 5060, PortState.OPEN), samples.port("tcp", 443, PortState.OPEN))
    seen = samples.host(changed=changed, path={"middlebox": "it answers for some", "blurred": ["tcp/5060"]})
    words = Reader(html(scan.model_copy(update={"hosts": (seen,)}))).words
    assert "Open, or only seems so (1)" in words
    assert "Open (1)" in words


def test_an_expected_port_is_told_apart_and_moved_voicemail_is_expected() -> None:
    scan = samples.silent_site()
    changed = (samples.port("udp", 5060, PortState.OPEN), samples.port("tcp", 2525, PortState.OPEN))
    site = scan.site.model_copy(update={"expect": ("udp/5060",), "voicemail": {"smtp": 2525}})
    words = Reader(html(scan.model_copy(update={"hosts": (samples.host(changed=changed),), "site": site}))).words
    assert "Open, as expected (2)" in words


def test_a_wide_scan_is_told_in_ranges() -> None:
    many = tuple(samples.port("tcp", number, PortState.CLOSED) for number in range(1, 10_000))
    scan = samples.silent_site().model_copy(update={"hosts": (samples.host(changed=many, echo=Echo.REPLIED),)})
    text = html(scan)
    assert "tcp/1-24" in text
    assert "9,999 refused" in text
    assert len(text.encode()) < 100_000


# --- hostile text --------------------------------------------------------------------------------


def assert_harmless(text: str) -> None:
    bad = {char for char in text if char != "\n" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co")}
    assert bad == set()
    assert "owned" not in text
    assert "[31" not in text
    assert "A" * 1000 not in text
    assert "(cut)" in text


def test_hostile_text_is_escaped_and_cut_in_html() -> None:
    text = html(samples.hostile())
    assert_harmless(text)
    assert "&lt;script&gt;alert(1)" in text
    assert "{{7*7}}" in text
    assert "<script" not in text
    assert "<img" not in text


def test_hostile_text_is_harmless_in_the_index() -> None:
    text = report.render_index([("../..//x?y=<b>", samples.hostile()), ("javascript:x", samples.silent_site())])
    assert_harmless(text.replace("(cut)", "") + "(cut)")
    assert 'href="..%2F..%2F%2Fx%3Fy%3D%3Cb%3E/report.html"' in text
    assert 'href="javascript%3Ax/report.html"' in text


@pytest.mark.parametrize("clean", [terminal_text, html_text])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("a\r\n\tb", "a b"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x07", "link"),
        ("\x1b]0;title never ended", ""),
        ("\x9b2Jclear", "clear"),
        ("\x1bPq#0\x1b\\sixel", "sixel"),
        ("\x1bcreset", "reset"),
        ("user\u202egpj.exe", "usergpj.exe"),
        ("ad\u200bm\u2060in\ufeff", "admin"),
        ("\u3164\u2800x", "x"),
        ("e\u0301" + "\u0301" * 50, "e\u0301\u0301"),
        ("nul\x00byte", "nulbyte"),
        ("half \ud800 pair", "half pair"),
        ("Zürich 東京", "Zürich 東京"),
        ("", ""),
    ],
)
def test_untrusted_text_becomes_one_plain_line(clean: Callable[[str], str], text: str, shown: str) -> None:
    assert clean(text) == shown


def test_long_text_is_cut_and_says_so() -> None:
    assert terminal_text("x" * 100) == "x" * 100
    cut = terminal_text("x" * 101)
    assert len(cut) == 100
    assert cut.endswith("… (cut)")
    assert terminal_text("\x00" * 1_000_000 + "x") == "… (cut)"


# --- the folder of templates ---------------------------------------------------------------------


def test_missing_templates_name_both_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "__file__", str(tmp_path / "top" / "exposure_scan" / "report" / "templates.py"))
    with pytest.raises(FileNotFoundError) as caught:
        pages.templates_folder()
    assert str(tmp_path / "top" / "exposure_scan" / "templates") in str(caught.value)
    assert str(tmp_path / "top" / "templates") in str(caught.value)
    packaged = tmp_path / "top" / "exposure_scan" / "templates"
    packaged.mkdir(parents=True)
    (packaged / "report.html.j2").touch()
    assert pages.templates_folder() == packaged


@pytest.mark.parametrize(
    ("days", "told"),
    [
        (-1, " (expired)"),
        (0, " (expires in 0 days)"),
        (1, " (expires in 1 day)"),
        (30, " (expires in 30 days)"),
        (31, ""),
    ],
)
def test_a_word_that_ends_is_told_thirty_days_before_and_shown_after(days: int, told: str) -> None:
    scan = samples.exposed_server()
    until = scan.started.date() + timedelta(days=days)
    waiver = scan.site.waivers[0].model_copy(update={"until": until})
    word = {"password.admin": scan.site.declares["password.admin"].model_copy(update={"until": until})}
    site = scan.site.model_copy(update={"waivers": (waiver,), "declares": word})
    words = Reader(html(scan.model_copy(update={"site": site}))).words
    assert f"sample technician 2026-11-01, until {until}{told} " in words
    assert f"sample owner {until}{told} " in words


def test_an_unknown_format_is_wrong_use() -> None:
    with pytest.raises(Problem, match="choose one of: html, json, csv"):
        report.render(samples.silent_site(), "docx", practices=())


# --- the style -----------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    digits = colour.removeprefix("#")
    digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    r, g, b = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_every_text_colour_has_contrast_on_every_ground_that_it_stands_on() -> None:
    css = html(samples.silent_site()).split("<style>")[1].split("</style>")[0]
    schemes = [
        dict(re.findall(r"--([a-z-]+):(#[0-9a-f]+)", block)) for block in re.findall(r":root\{(.*?)\}", css, re.S)
    ]
    assert len(schemes) == 3  # light, dark, print
    for own in schemes:
        colours = schemes[0] | own
        pairs = [(ink, ground) for ink in ("ink", "soft", "link") for ground in ("page", "card", "fill")]
        for tone in ("good", "bad", "unsure", "told", "quiet"):
            pairs += [(tone, "card"), (tone, f"{tone}-fill")]
        pairs += [("on-band", f"band-{tone}") for tone in ("good", "bad", "unsure")] + [("card", "ink")]
        for ink, ground in pairs:
            light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def test_counts_add_up_in_the_index() -> None:
    words = Reader(report.render_index([("a", samples.exposed_server()), ("b", samples.silent_site())])).words
    assert "2 sites scanned" in words
    assert "0 GO 1 NO-GO 1 INCONCLUSIVE" in words
    assert "6 not met 1 cannot tell 13 undeclared" in words
    met = [f for f in samples.silent_site().findings if f.status is Status.CANNOT_TELL]
    assert f"0 not met {len(met)} cannot tell" in words
