"""Each function that makes untrusted text safe, held to its promise for any text, and read back by a parser."""

from __future__ import annotations

import csv
import io
import json
import re
import tomllib
import unicodedata
from collections.abc import Callable
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP, default
from functools import partial
from html import escape

import cmarkgfm
import html5lib
import pytest
import tomli_w
from cmarkgfm.cmark import Options
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mails import squeezed
from markdown_it import MarkdownIt

from exposure_scan.model import Problem
from exposure_scan.model.text import (
    NAME_LIMIT,
    csv_text,
    file_name,
    header_text,
    html_text,
    json_text,
    line_text,
    log_text,
    markdown_text,
    quoted,
    terminal_text,
    toml_text,
    within,
)

# Pieces that mean something somewhere, between any others.
PIECES = (
    *("\x1b[31;1m", "\x1b[2J", "\x9b2J", "\x1b]0;owned\x07", "\x1b]52;c;b3duZWQ=\x07", "\x1b]8;;http://e.example\x1b\\"),
    *("\x1b]0;no end", "\x1bPq#0\x1b\\", "\x1b", "\x9d", "\u202e", "\u2066", "\u200b", "\u2028", "\u2029", "\x85"),
    *("\x00", "\r\n", "\n", "\r", "\t", "\v", "\x7f", "\ufeff", "\U000e0041", "\ud800", "\u3164", "e" + "\u0301" * 9),
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&lt;", "]]>", "--", '"', "'", "`", "\\", "\\u202e"),
    *("=cmd|'/c calc'!A0", "+1", "-1", "@SUM(1)", "\uff1d1", "=?utf-8?q?=0Aevil?=", "Bcc: a@evil.example", ": ", ";"),
    *("[a](http://evil.example)", "![a](http://x)", "[bold red]", "{{7*7}}", "{% raw %}", '"""', "'''", "]\n[pack]\n"),
    *(",", "#", "../", "..", ".", "/", "CON", "nul", "COM\u00b9", "lpt9", "aux.txt", "~", "$(id)", "%n%s", "\u00e9"),
    *("e\u0301", "\u1e9e"),
)  # fmt: skip
ANY = st.lists(st.sampled_from(PIECES) | st.text(max_size=12), max_size=12).map("".join)
HOSTILE = "".join(PIECES)
LONG = HOSTILE + "A" * 1_000_000
any_text = partial(settings, max_examples=300, deadline=None)

ONE_LINE: dict[str, Callable[[str], str]] = {
    one.__name__: one
    for one in (terminal_text, within, html_text, csv_text, markdown_text, log_text, header_text, line_text, quoted)
}


def moving(text: str) -> set[str]:
    """What a terminal obeys, or a reader does not see; and ends of lines."""
    return {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")}


@pytest.mark.parametrize("name", ONE_LINE)
def test_a_line_is_one_line_that_prints_and_has_an_end(name: str, figure: Callable[[str, int], None]) -> None:
    clean = ONE_LINE[name]

    @any_text()
    @given(ANY)
    @example(HOSTILE)
    @example(LONG)
    def holds(text: str) -> None:
        line = clean(text)
        assert moving(line) == set()
        assert len(line.splitlines()) <= 1
        assert len(line) <= 9000  # as escapes, in Markdown and in quotation marks
        assert not re.search("[\u0300-\u036f]{3}", line)
        assert set("\u3164\u2800") & set(line) == set()
        figure("hostile text: texts through one function each", 1)

    holds()


@pytest.mark.parametrize("clean", [terminal_text, within, html_text, log_text, header_text])
def test_what_is_clean_stays_as_it_is(clean: Callable[[str], str]) -> None:
    @any_text()
    @given(ANY)
    @example(HOSTILE)
    def holds(text: str) -> None:
        assert clean(clean(text)) == clean(text)

    holds()
    for plain in ("220 mail.example ESMTP Postfix", "Zürich 東京", "a [b] {c} <d> \\e", "-1"):
        assert clean(plain) == plain


@pytest.mark.parametrize("show", [quoted, line_text])
def test_what_somebody_has_to_mend_is_shown_with_its_numbers(show: Callable[[str], str]) -> None:
    assert show("a\x1b[31mb\u202ec").strip('"') == r"a\u001b[31mb\u202ec"
    assert show("two  spaces").strip('"') == "two  spaces"


@any_text()
@given(ANY)
@example(HOSTILE)
def test_a_problem_is_clean_whoever_tells_it(text: str) -> None:
    problem = Problem(f"It said {text} and that is wrong.", "Another sentence.")
    assert len(problem.sentences) == 2
    assert moving(str(problem)) <= {"\n"}
    assert str(problem) == "\n".join(problem.sentences)


# --- HTML -----------------------------------------------------------------------------------------


@any_text()
@given(ANY)
@example(HOSTILE)
@example("</p><p>")
def test_in_html_it_is_one_text(text: str) -> None:
    said = html_text(text)
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    tree = parser.parse(f'<!doctype html><html><body><p title="{escape(said)}">{escape(said)}</p></body></html>')
    (element,) = tree.iter("p")
    assert list(element) == []
    assert (element.text or "") == said == element.get("title")
    assert [node.tag for node in tree.find("body").iter()] == ["body", "p"]


# --- CSV ------------------------------------------------------------------------------------------


@any_text()
@given(ANY, ANY)
@example(HOSTILE, "=1+1")
def test_in_a_table_it_is_one_cell_and_no_formula(text: str, other: str) -> None:
    file = io.StringIO()
    csv.writer(file, lineterminator="\r\n").writerow((csv_text(text), csv_text(other)))
    (row,) = csv.reader(io.StringIO(file.getvalue(), newline=""), strict=True)
    assert row == [csv_text(text), csv_text(other)]
    assert not [
        cell
        for cell in row
        if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20"))
    ]


# --- Markdown -------------------------------------------------------------------------------------

MARKDOWN = MarkdownIt("commonmark").enable("table")


def visible(html: str) -> str:
    """The text of a piece of HTML, with the code by which marks of links are kept apart."""
    tree = html5lib.parseFragment(html, namespaceHTMLElements=False)
    assert {node.tag for node in tree.iter()} <= {"DOCUMENT_FRAGMENT", "p", "code", "table", "thead", "tr", "th"}
    return "".join(tree.itertext())


@any_text()
@given(ANY)
@example(HOSTILE)
@example("1. x\n# y")
def test_in_markdown_it_is_plain_text_to_both_parsers(text: str) -> None:
    wanted = html_text(text)
    for before, after in (("", ""), ("x ", " y"), ("| ", " |\n| --- |")):
        source = before + markdown_text(text) + after
        github = visible(cmarkgfm.github_flavored_markdown_to_html(source, options=Options.CMARK_OPT_UNSAFE))
        common = visible(MARKDOWN.render(source))
        around = ("", "") if "---" in after else (before, after)
        for shown in (github, common):
            assert shown.split() == f"{around[0]}{wanted}{around[1]}".split()


# --- mail -----------------------------------------------------------------------------------------


@any_text()
@given(ANY)
@example(HOSTILE)
@example("=?utf-8?q?=0ABcc:_a@evil.example?=")
@example("==??==??utf-8?b?ZXZpbA==?=")
def test_in_a_header_it_is_nothing_but_that_header(text: str) -> None:
    message = EmailMessage(policy=SMTP)
    message["Subject"] = header_text(text)
    message["To"] = "owner@customer.example"
    message.set_content("synthetic")
    raw = message.as_bytes()
    read = message_from_bytes(raw, policy=default)
    assert read.keys() == ["Subject", "To", "Content-Type", "Content-Transfer-Encoding", "MIME-Version"]
    assert squeezed(str(read["Subject"])) == squeezed(header_text(text))  # Python loses spaces where it folds
    assert "=?" not in header_text(text)
    assert len(header_text(text)) <= 200


# --- names of files -------------------------------------------------------------------------------

DEVICES = {"con", "prn", "aux", "nul"} | {
    f"{kind}{n}" for kind in ("com", "lpt") for n in "0123456789\u00b9\u00b2\u00b3"
}


@any_text()
@given(ANY, st.integers(24, 255))
@example("", 60)
@example("..", 60)
@example("../../etc/passwd", 60)
@example("CON", 60)
@example("con.", 60)
@example("com\u00b9", 60)
@example("\u00e4" * 300, 61)
@example("A" * 1_000_000, 60)
@example("\ud800", 60)
def test_a_name_is_one_word_that_every_file_system_takes(text: str, limit: int) -> None:
    name = file_name(text, limit)
    assert re.fullmatch(r"[^\W_]+(-[^\W_]+)*", name)
    assert name not in DEVICES
    assert unicodedata.is_normalized("NFC", name)
    assert len(name.encode()) <= limit
    assert name == file_name(unicodedata.normalize("NFD", text), limit)
    assert file_name(name, limit) == name


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("Synthetic Dental", "synthetic-dental"),
        ("../../etc/passwd", "etc-passwd"),
        ("Straße 5.", "strasse-5"),
        ("Caf\u00e9", "caf\u00e9"),
        ("Cafe\u0301", "caf\u00e9"),
        ("東京 Dental", "東京-dental"),
        ("..", "x"),
        ("NUL", "x-nul"),
        ("Com1", "x-com1"),
        ("console", "console"),
    ],
)
def test_a_name_is_told_by_its_letters(text: str, becomes: str) -> None:
    assert file_name(text) == becomes


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=NAME_LIMIT, max_size=400), st.text(min_size=NAME_LIMIT, max_size=400))
@example("a" * 200 + "b", "a" * 200 + "c")
def test_long_names_that_differ_behind_the_cut_stay_apart(one: str, other: str) -> None:
    whole = [file_name(text, 10_000) for text in (one, other)]
    assert (file_name(one) == file_name(other)) == (whole[0] == whole[1])


# --- JSON and TOML --------------------------------------------------------------------------------

WHOLE = ANY.filter(lambda text: text.isprintable() or text.encode("utf-8", "ignore").decode() == text)  # no half pairs
TREES = st.dictionaries(WHOLE, WHOLE | st.integers() | st.lists(WHOLE, max_size=3), max_size=4)


def controls(text: str) -> set[str]:
    return {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp")}


@any_text()
@given(TREES)
@example({HOSTILE.replace("\ud800", ""): HOSTILE.replace("\ud800", "")})
def test_json_says_the_same_and_moves_nothing(tree: dict[str, object]) -> None:
    for indent in (None, 2):
        text = json_text(json.dumps(tree, ensure_ascii=False, indent=indent))
        assert json.loads(text) == tree
        assert controls(text) <= {"\n"}


@any_text()
@given(TREES)
@example({"a\U000e0041\x7f\x9b": ["\u2028\x00", '"""', "'''\n[x]\n"]})
@example({HOSTILE.replace("\ud800", ""): HOSTILE.replace("\ud800", "")})
def test_toml_says_the_same_and_moves_nothing(tree: dict[str, object]) -> None:
    text = toml_text(tomli_w.dumps(tree))
    assert tomllib.loads(text) == tree
    assert controls(text) <= {"\n"}
