"""One hostile host, scanned for real, and its words through every output of the command line.

Each output is read by a parser of its own kind, and nothing in it is anything but text.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from xml.etree.ElementTree import Element

import cmarkgfm
import html5lib
import pypdf
import pytest
from browser import needs_browser, open_all, shown, started
from cmarkgfm.cmark import Options
from defusedxml.ElementTree import fromstring
from hostile_host import MARKER
from hostile_outputs import Shelf, everything

Figure = Callable[[str, int], None]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return everything(tmp_path_factory.mktemp("hostile"))


def moving(text: str) -> set[str]:
    """What a terminal obeys and what turns, hides or ends lines, but for the ends of lines."""
    return {one for one in text if one != "\n" and unicodedata.category(one) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")}


def looked_at(found: Mapping[str, bytes], least: int, figure: Figure) -> Iterator[tuple[str, str]]:
    """Each output as text; enough of them, and the figure told."""
    assert len(found) >= least, sorted(found)
    figure("hostile text: outputs looked at", len(found))
    for name, data in found.items():
        yield name, data.decode("utf-8")


# --- terminal, log and errors ---------------------------------------------------------------------


def test_nothing_printed_moves_a_terminal(shelf: Shelf, figure: Figure) -> None:
    for name, text in looked_at(shelf.of("txt"), 30, figure):
        assert moving(text) == set(), name
        assert "[35;7m" not in text.replace("\\x1b[35;7m", "").replace("\\u001b[35;7m", ""), name
        assert max(map(len, text.splitlines()), default=0) < 9000, name


def test_messages_keep_their_lines(shelf: Shelf) -> None:
    for name, data in shelf.kept.items():
        if name.endswith("errors.txt"):
            assert [line for line in data.decode().splitlines() if not line.startswith("exposure-scan: ")] == [], name


def test_its_words_are_shown_all_the_same(shelf: Shelf) -> None:
    """A cleaner that dropped everything would pass all the rest."""
    shown_in = ("evidence evidence.zip --finding sip", "replay capture.pcap", "sweep", "out/outbox")
    for begin in shown_in:
        told = b"".join(data for name, data in shelf.kept.items() if name.startswith(begin))
        assert b"Synthex" in told or b"onerror" in told, begin
    assert b"=HYPERLINK(" in shelf.kept["report scan.json --format csv.csv"]
    assert b"&lt;script&gt;" in shelf.kept["report.html"]


# --- HTML -----------------------------------------------------------------------------------------

_TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "main",
        "footer",
        "section",
        "div",
        "span",
        "p",
        "h1",
    ),
    *(
        "h2",
        "h3",
        "ul",
        "ol",
        "li",
        "dl",
        "dt",
        "dd",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "b",
        "br",
        "wbr",
        "a",
    ),
    *("bdi", "code", "kbd", "pre", "details", "summary", "svg", "defs", "symbol", "path", "ellipse", "circle", "rect"),
    *(
        "use",
        "g",
        "text",
        "fieldset",
        "legend",
        "label",
        "input",
        "caption",
        "figure",
        "figcaption",
        "i",
        "em",
        "strong",
    ),
}


def harmless_page(text: str, name: str) -> Element:
    tree: Element = html5lib.parse(text, namespaceHTMLElements=False)
    for node in tree.iter():
        if not isinstance(node.tag, str):
            continue  # a comment
        tag = node.tag.rpartition("}")[2]
        assert tag in _TAGS, (name, tag)
        for key, value in node.attrib.items():
            word = str(key).rpartition("}")[2]
            assert not word.startswith("on"), (name, word)
            if word == "href":
                assert re.fullmatch(r"#[\w.-]+|mailto:[\w.+-]+@[\w.-]+|[\w.~%-]+/report\.html", value), (name, value)
            elif word in ("src", "srcset", "action", "formaction", "data", "background"):
                assert value.startswith("data:image/"), (name, value)
            elif word == "style":
                assert "url(" not in value, name
            assert MARKER not in value or word in ("aria-label", "content", "alt", "title", "class"), (name, word)
        if tag == "style":
            assert MARKER not in (node.text or ""), name
            assert "evil" not in (node.text or ""), name
    return tree


def test_every_page_is_text_and_nothing_else(shelf: Shelf, figure: Figure) -> None:
    found = 0
    for name, text in looked_at(shelf.of("html"), 8, figure):
        assert moving(text) == set(), name
        tree = harmless_page(text, name)
        found += MARKER in "".join(tree.itertext())
    assert found >= 4


@needs_browser
def test_no_script_runs_and_no_request_leaves_a_page(shelf: Shelf, figure: Figure) -> None:
    pages = [*sorted(shelf.folder.rglob("*.html"))]
    for name in ("report scan.json --format mail-html.html", "report forged.json --format html.html"):
        pages.append(shelf.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:8]}.html")
        pages[-1].write_bytes(shelf.kept[name])
    try:
        with started() as browser:
            for file in pages:
                # without obeying the page's own policy: the text must be harmless without it, too
                with shown(browser, file, obeys_policy=False) as page:
                    open_all(page)
                    assert page.title() != MARKER
                    assert page.evaluate("document.scripts.length") == 0
                    assert page.evaluate("[...document.images].filter(one => !one.src.startsWith('data:')).length") == 0
                figure("hostile text: pages in a browser", 1)
    finally:
        for file in pages[-2:]:
            file.unlink()
    assert len(pages) >= 6


# --- files for programs ---------------------------------------------------------------------------


def test_tables_have_no_formula_and_no_cell_too_many(shelf: Shelf, figure: Figure) -> None:
    for name, text in looked_at(shelf.of("csv"), 3, figure):
        assert moving(text) <= {"\r"}, name
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        assert len({len(row) for row in rows}) == 1, name
        assert text.count("\n") == len(rows), name
        assert not [cell for row in rows for cell in row if re.match("[=+@\t\r\uff1d\uff0b\uff0d\uff20-]", cell)], name


def test_documents_parse_and_move_nothing(shelf: Shelf, figure: Figure) -> None:
    for name, text in looked_at(shelf.of("json"), 10, figure):
        assert moving(text) == set(), name
        json.loads(text)
    for name, text in looked_at(shelf.of("toml"), 1, figure):
        assert moving(text) == set(), name
        assert set(tomllib.loads(text)) == {"pack", "fingerprint"}, name
    for name, text in looked_at(shelf.of("xml"), 2, figure):
        assert moving(text) == set(), name
        assert {node.tag for node in fromstring(text).iter()} <= {
            *(
                "testsuites",
                "testsuite",
                "testcase",
                "properties",
                "property",
                "failure",
                "error",
                "skipped",
                "system-out",
            ),
        }, name


def test_nothing_of_the_pack_is_lost(shelf: Shelf) -> None:
    """What was learnt is what was said, control characters and all."""
    (text,) = (data.decode() for name, data in shelf.of("toml").items() if name.startswith("packs/"))
    said = [example["value"] for row in tomllib.loads(text)["fingerprint"] for example in row["example"]]
    assert any("\x1b]52;c;b3duZWQ=\x07" in value and "\u2028" in value for value in said)


def markdown_texts(shelf: Shelf) -> Iterator[tuple[str, str]]:
    for name, data in shelf.of("md").items():
        yield name, data.decode()
    for name, data in shelf.kept.items():
        if "--format sarif" in name:
            (sarif,) = json.loads(data)["runs"]
            yield from ((name, rule["help"]["markdown"]) for rule in sarif["tool"]["driver"]["rules"])


def test_markdown_has_no_link_no_picture_and_no_html(shelf: Shelf, figure: Figure) -> None:
    figure("hostile text: outputs looked at", len(shelf.of("md")))
    texts = list(markdown_texts(shelf))
    assert len(texts) > 20
    for name, text in texts:
        assert moving(text) == set(), name
        html = cmarkgfm.github_flavored_markdown_to_html(text, options=Options.CMARK_OPT_UNSAFE)
        tags = {node.tag for node in html5lib.parseFragment(html, namespaceHTMLElements=False).iter()}
        own = {"h1", "h2", "p", "strong", "code", "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td"}
        assert tags <= own | {"DOCUMENT_FRAGMENT"}, name


# --- mail and paper -------------------------------------------------------------------------------


def test_mail_has_its_own_headers_alone(shelf: Shelf, figure: Figure) -> None:
    found = shelf.of("eml")
    figure("hostile text: outputs looked at", len(found))
    assert found
    for name, data in found.items():
        mail = message_from_bytes(data, policy=default)
        assert isinstance(mail, EmailMessage)
        assert mail.defects == []
        known = {"From", "To", "Subject", "Date", "Message-ID", "References", "Auto-Submitted", "MIME-Version"}
        assert set(mail.keys()) <= known | {"Content-Type", "In-Reply-To", "Importance", "X-Priority"}
        assert len(mail.keys()) == len(set(mail.keys()))
        assert str(mail["To"]) == "owner@customer.example"
        assert mail["From"].addresses[0].addr_spec == "reports@partner.example"
        assert mail["Subject"].isprintable()
        for part in mail.walk():
            if (file := part.get_filename()) is not None:
                assert re.fullmatch(r"[\w-]+\.(html|pdf)", file), file
        plain, rich = mail.get_body(("plain",)), mail.get_body(("html",))
        assert plain is not None
        assert rich is not None
        assert moving(plain.get_content().replace("\r\n", "\n")) == set(), name
        harmless_page(rich.get_content(), name)
        harmless_page(next(part.get_content() for part in mail.iter_attachments()), name)


def test_names_of_files_hold_no_way_out(shelf: Shelf) -> None:
    for path in (shelf.folder / "out").rglob("*"):
        assert re.fullmatch(r"[\w-]+(\.[a-z]+)?", path.name), path.name
    assert {path.name for path in (shelf.folder / "out").iterdir() if path.is_dir()} == {
        "outbox",
        "cmd-x-bold-red-y-b-7-7-b-n-c-a-http-evil-example",
    }


def test_paper_has_no_action(shelf: Shelf, figure: Figure) -> None:
    found = shelf.of("pdf")
    figure("hostile text: outputs looked at", len(found))
    assert len(found) == 2
    for name, data in found.items():
        read = pypdf.PdfReader(io.BytesIO(data))
        words = "".join(page.extract_text() for page in read.pages)
        assert "Synthex" in words, name
        assert moving(words) <= {"\xad"}, name
        assert not read.attachments, name
        for number in range(1, int(str(read.trailer["/Size"]))):
            thing = read.get_object(pypdf.generic.IndirectObject(number, 0, read))
            if isinstance(thing, pypdf.generic.DictionaryObject):
                assert not {"/JS", "/JavaScript", "/AA", "/Launch", "/OpenAction", "/URI"} & thing.keys(), (name, thing)
        for page in read.pages:
            for note in page.get("/Annots", []):
                action = note.get_object().get("/A", {})
                assert action.get("/S") in (None, "/GoTo"), (name, action)
