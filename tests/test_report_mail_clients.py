"""The mail as mail clients take it: simple, small, readable in light and dark, and harmless whatever a server said."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
import samples
import samples_doubt
from mails import (
    Reader,
    Sample,
    changed,
    every_past,
    every_sample,
    html_part,
    material,
    parts,
    plain_words,
    squeezed,
    text_part,
)

from exposure_scan import report
from exposure_scan.model import Problem, Scan, Status
from exposure_scan.model.colour import READABLE, contrast
from exposure_scan.model.text import html_text
from exposure_scan.report.mail import mail_subject, render_mail_html, render_mail_text

# Every line of the text part that begins at the margin.
HEADINGS = {
    "Phone system exposure report",
    "✗ NO-GO",
    "? INCONCLUSIVE",
    "✓ GO",
    "What was found",
    "What could not be settled",
    "What this rests on",
    "What changed",
    "What to do, in this order",
    "At a glance",
    "Every practice",
    "The other addresses",
    "Declarations and waivers",
    "What was not tested",
    "About this scan",
}


# --- the HTML part -------------------------------------------------------------------------------


@every_sample
@every_past
def test_the_html_part_holds_nothing_but_words(sample: Sample, past: str) -> None:
    html = html_part(sample, past)
    read = Reader(html)
    assert {tag for tag, _ in read.tags} <= set(
        "html head meta title style body div table tbody tr td p h1 h2 h3 ul li b span bdi br wbr a".split()  # noqa: SIM905
    )
    attributes = [(name, value or "") for _, attrs in read.tags for name, value in attrs.items()]
    assert {name for name, _ in attributes} <= set(
        "lang dir charset name content class style role align cellpadding cellspacing border href "  # noqa: SIM905
        "data-css-inline".split()
    )
    assert [value for name, value in attributes if name == "href" and value != "mailto:help@partner.example"] == []
    styles = " ".join(
        [value for name, value in attributes if name == "style"] + re.findall(r"<style.*?</style>", html, re.S)
    )
    assert not re.search(r"url\(|@import|expression|flex|grid-|display:grid|var\(|--|position|float", styles)
    assert "<script" not in html


@every_sample
def test_the_html_part_is_one_that_mail_clients_keep(sample: Sample) -> None:
    html = html_part(sample)
    read = Reader(html)
    tables = [attrs for tag, attrs in read.tags if tag == "table"]
    assert {attrs["role"] for attrs in tables} == {"presentation"}
    sheet = next(attrs["style"] or "" for attrs in tables if attrs.get("class") == "sheet")
    assert "max-width:600px" in sheet
    assert "table-layout:fixed" in sheet
    for tag, attrs in read.tags:
        if tag in ("body", "p", "h1", "h2", "h3", "ul", "li", "a") or attrs.get("class"):
            assert attrs.get("style"), f"no style in {tag}"
    cells = [attrs["style"] or "" for tag, attrs in read.tags if tag == "td" and "cell" in (attrs.get("class") or "")]
    assert all("word-break:break-word" in style for style in cells)
    (kept,) = re.findall(r"<style[^>]*>(.*?)</style>", html, re.S)
    assert re.sub(r"@media \([a-z:0-9-]+\)\{(?:[^{}]+\{[^{}]+\}\s*)+\}", "", kept).strip() == ""
    assert "prefers-color-scheme:dark" in kept
    assert "<title>" in html[: html.index("<style")]


def test_the_html_part_names_its_language_and_title_and_begins_with_what_an_inbox_shows() -> None:
    html = render_mail_html(material(samples.exposed_server(), changed()))
    read = Reader(html)
    assert read.tags[0] == ("html", {"lang": "en", "dir": "ltr"})
    subject = mail_subject(material(samples.exposed_server(), changed()))
    assert f"<title>{subject}</title>" in html
    (hidden,) = read.hidden
    assert hidden.startswith(
        "5 important security practices are broken, as seen from outside. Against the last scan: was"
    )
    assert hidden.endswith("Do not go live like this. Have the steps below done, then have it scanned again.")
    assert html.index(hidden) < html.index("Phone system exposure report")


def test_every_text_colour_is_readable_on_its_ground() -> None:
    html = render_mail_html(material(samples_doubt.blind_vantage(), changed()))
    html += render_mail_html(material(samples.exposed_server())) + render_mail_html(
        material(samples.silent_with_presence())
    )
    light = set(re.findall(r"[^-]color:(#[0-9a-f]{6})", re.sub(r"<style.*?</style>", "", html, flags=re.S)))
    kept = html.split("prefers-color-scheme:dark")[1].split("</style>")[0]
    dark = set(re.findall(r"[^-]color:(#[0-9a-f]{6})", kept))
    hidden = {"#f4f5f7", "#10141a"}  # the colours of the text that nobody sees, and of its ground
    assert len(light) > 5
    assert len(dark) > 5
    for ink in light - hidden - {"#ffffff"}:
        assert contrast(ink, "#ffffff") >= READABLE
        assert contrast(ink, "#fdf3dc") >= READABLE or ink != "#1a2230"
    for ink in dark - hidden:
        assert contrast(ink, "#181e27") >= READABLE
    for band in re.findall(r'class="cell band [a-z-]+" style="[^"]*background-color:(#[0-9a-f]{6})', html):
        assert contrast(band, "#ffffff") >= READABLE
    assert html.count('class="cell band ') == 3


def test_the_partners_colour_is_shown_and_a_hostile_one_is_not() -> None:
    scan = samples.exposed_server()
    own = scan.model_copy(update={"partner": scan.partner | {"accent": "#1c4f9c"}})
    assert "background-color:#1c4f9c" in render_mail_html(material(own))
    bad = scan.model_copy(update={"partner": scan.partner | {"accent": "#fff;background:url(//x)", "logo": "data:,"}})
    assert render_mail_html(material(bad)).count("stripe") == 0


@pytest.mark.parametrize("address", ["help@partner.example", "first.last+tag@sub.partner.example"])
def test_the_partners_plain_address_is_a_link(address: str) -> None:
    scan = samples.silent_site().model_copy(update={"partner": {"mail": address}})
    assert f'<a href="mailto:{address}"' in render_mail_html(material(scan))
    assert f"Contact: {address}" in parts(scan)[0]


@pytest.mark.parametrize(
    "address",
    [
        "a@b.example?bcc=c@d.example",
        "a@b.example%0d%0aBcc:c@d.example",
        "a@b.example,c@d.example",
        "a&b@c.example",
        "Name <a@b.example>",
        "javascript:alert(1)",
        "a@b",
        "a@b.example\n",
        '"a b"@c.example',
        "ä@b.example",
        "a" * 250 + "@b.example",
    ],
)
def test_any_other_address_is_none(address: str) -> None:
    scan = samples.silent_site().model_copy(update={"partner": {"mail": address}})
    read = Reader(render_mail_html(material(scan)))
    assert "a" not in {tag for tag, _ in read.tags}
    assert html_text(address, 254)[:40] in read.text


# --- the text part -------------------------------------------------------------------------------


@every_sample
@every_past
def test_no_text_from_outside_breaks_a_line_or_makes_a_heading(sample: Sample, past: str) -> None:
    text = text_part(sample, past)
    lines = text.split("\n")
    assert max(len(line) for line in lines) <= 78
    margin = {line for line in lines if line and not line.startswith(" ")}
    assert {line for line in margin if not re.fullmatch(r"={20}|-{20,25}", line)} <= HEADINGS
    assert text == text.strip("\n") + "\n"
    assert "\n\n\n" not in text


def test_a_long_text_goes_on_deeper_than_any_label_stands() -> None:
    forged = " ".join(["word"] * 12) + " Fix: nothing, all is well. ✓ Met: " * 20
    scan = samples.silent_site()
    findings = tuple(one.model_copy(update={"because": forged, "title": forged}) for one in scan.findings)
    named = scan.model_copy(update={"findings": findings, "because": (forged,)})
    text = render_mail_text(material(named, changed(forged, forged)))
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip())
        if line.lstrip().startswith(("Fix: nothing", "nothing,", "all is", "word")):
            assert indent >= 6, line


@every_sample
@every_past
def test_no_invisible_character_comes_through(sample: Sample, past: str) -> None:
    for text in (text_part(sample, past), html_part(sample, past)):
        bad = {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")}
        assert bad <= {"\n"}
        assert "owned" not in text
        assert "A" * 1000 not in squeezed(text)


def test_the_text_part_is_not_escaped_as_html() -> None:
    assert '"SIP/2.0 200 OK"' in render_mail_text(material(samples.exposed_server()))
    assert "&" not in render_mail_text(material(samples.exposed_server()))


# --- size ----------------------------------------------------------------------------------------


def many(number: int, because: str = "", scan: Scan | None = None) -> Scan:
    """A site of many addresses, the last of which shows something that the others do not."""
    one = scan or samples.exposed_server()
    addresses = [f"2001:db8::{index:x}" for index in range(number)]
    findings = [
        finding.model_copy(update={"host": address, "because": f"{finding.because} {because}", "waived": None})
        for address in addresses
        for finding in one.findings
    ]
    findings[-1] = findings[-1].model_copy(update={"status": Status.NOT_MET})
    hosts = tuple(one.hosts[0].model_copy(update={"address": address}) for address in addresses)
    return one.model_copy(update={"hosts": hosts, "findings": tuple(findings)})


@every_sample
@every_past
def test_a_mail_is_small(sample: Sample, past: str) -> None:
    assert len(html_part(sample, past).encode()) < 100_000


def test_a_larger_site_is_told_more_briefly_and_every_practice_still_by_name() -> None:
    full = []
    for number in (1, 5, 12, 30):
        scan = many(number, "and more words about it. " * 12)
        html = render_mail_html(material(scan))
        assert len(html.encode()) < 100_000
        told = Reader(html).text.split("Every practice", 1)[1]
        for finding in scan.findings[:24]:
            assert told.count(finding.title) >= number
        assert told.count("Address: ") == number
        assert squeezed(Reader(html).text) == squeezed(plain_words(render_mail_text(material(scan))))
        full.append(told.count("Seen: "))
    assert full == [24, 5 * 20 + 1, 12 * 7 + 1, 0]  # all; what asks for something; what was seen; titles alone


HUGE = (many(256, "long " * 200), many(100, scan=samples.hostile(9_000)))


@pytest.mark.parametrize("scan", HUGE, ids=["many", "hostile"])
def test_a_huge_site_tells_the_worst_addresses_by_name_and_every_one_in_numbers(scan: Scan) -> None:
    html = render_mail_html(material(scan, changed()))
    assert len(html.encode()) < 100_000
    told = " ".join(Reader(html).text.split())
    worst, others = told.split("The other addresses")
    assert f"Address: {scan.hosts[-1].address} " in worst  # it breaks more practices than the others
    left = [host.address for host in scan.hosts if f"Address: {host.address} " not in worst]
    assert len(left) in (len(scan.hosts) - 20, len(scan.hosts) - 3)
    for address in left:
        broken = sum(one.host == address and one.status is Status.NOT_MET for one in scan.findings)
        assert f"{address}: ✗ {broken} Not met" in others
    assert squeezed(told) == squeezed(plain_words(render_mail_text(material(scan, changed()))))


def test_a_scan_of_no_address_says_so() -> None:
    scan = samples.silent_site().model_copy(update={"hosts": (), "findings": ()})
    for told in parts(scan):
        assert "Every practice No address was scanned." in told
        assert "No practice needs work now. Scan again after each change." in told


# --- a partner's own -----------------------------------------------------------------------------


def test_the_formats_are_known_by_name() -> None:
    scan = samples.exposed_server()
    for name, own in (("mail-html", render_mail_html), ("mail-text", render_mail_text)):
        assert name in report.FORMATS
        assert report.render(scan, name, practices=samples.PRACTICES, past=changed()) == own(material(scan, changed()))


@every_sample
def test_the_same_scan_gives_the_same_bytes(sample: Sample) -> None:
    for made in (render_mail_html, render_mail_text, mail_subject):
        assert made(material(sample(), changed())) == made(material(sample(), changed()))


def test_what_an_own_template_shows_is_made_safe_and_its_mistakes_are_named(tmp_path: Path) -> None:
    (tmp_path / "mail.txt.j2").write_text(
        "Site <{{ page.scan.site.name }}>\n{{ page.scan.hosts[0].ports[0].banner }}\n"
    )
    (tmp_path / "mail.html.j2").write_text(
        '<link rel="stylesheet" href="https://198.51.100.1/x.css"><style>p{color:teal}</style>'
        "<p>{{ page.scan.site.name }}</p>"
    )
    own = material(samples.hostile(), templates=tmp_path)
    text = render_mail_text(own)
    assert text.startswith("Site <<script>alert(1)</script>")
    assert all(len(line) <= 78 for line in text.split("\n"))
    assert not {char for char in text if unicodedata.category(char) in ("Cc", "Cf")} - {"\n"}
    html = render_mail_html(own)
    assert '<p style="color:teal">&lt;script&gt;' in html
    assert "x.css" not in html
    (tmp_path / "mail.txt.j2").write_text("\n{{ nobody }}")
    with pytest.raises(Problem, match=r"mail\.txt\.j2, line 2"):
        render_mail_text(own)
