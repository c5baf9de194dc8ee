"""The fingerprint files: each row keeps to the rules, what is known is there, and nobody else is taken for Allworx."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from banners import FOREIGN
from hypothesis import given
from hypothesis import strategies as st

from exposure_scan.classify import (
    CLAIM,
    FAMILY,
    HEURISTIC_CEILING,
    TEXT_LIMIT,
    Example,
    Fingerprint,
    UnknownFieldError,
    Vocabulary,
    built_in,
    details,
    faults,
    load,
    match,
    match_line,
    vocabulary,
)
from exposure_scan.model import DeviceClass, Problem
from exposure_scan.protocols import FIELDS

BY_OPERATOR = {"snmp.sysdescr", "snmp.sysobjectid"}  # they need a community, which we never guess
OIS = {"http.server": "IST OIS"}
ROWS = built_in().rows
NAMED = [pytest.param(row, id=row.id) for row in ROWS]
EXAMPLES = [
    pytest.param(row, example, id=f"{row.id}-{number}") for row in ROWS for number, example in enumerate(row.example, 1)
]


def classes(field: str, value: str, said: dict[str, str] | None = None, port: str | None = None) -> dict[str, float]:
    return {support.says.value: support.confidence for support in reversed(match(field, value, said or {}, port))}


# --- each row ------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", NAMED)
def test_a_row_says_whose_word_it_is_and_how_sure(row: Fingerprint) -> None:
    assert re.search(r"@[0-9a-f]{7}|nmap-service-probes|observed: |https://|Guide|no source: ", row.source)
    assert row.says is not DeviceClass.UNKNOWN
    assert 0 < row.confidence <= 1
    assert row.alone <= row.confidence
    assert row.field in FIELDS | BY_OPERATOR
    assert row.product in vocabulary().products


@pytest.mark.parametrize("row", NAMED)
def test_a_row_has_examples_for_and_against(row: Fingerprint) -> None:
    assert {example.match for example in row.example} == {True, False}


@pytest.mark.parametrize(("row", "example"), EXAMPLES)
def test_an_example_does_what_it_says(row: Fingerprint, example: Example) -> None:
    found = [s for s in match(row.field, example.value, example.said, example.port) if s.fingerprint == row.id]
    if not example.match:
        assert found == []
        return
    (support,) = found
    expected = row.confidence if example.confidence is None else example.confidence
    assert (support.says, support.confidence, support.heuristic) == (row.says, expected, row.heuristic)
    named = details(support)
    assert (named.product, named.model, named.version) == (row.product, example.model, example.version)


@pytest.mark.parametrize("row", NAMED)
def test_a_row_passes_the_tests_that_a_pack_has_to_pass(row: Fingerprint) -> None:
    assert faults(row, ROWS, vocabulary()) == []


@pytest.mark.parametrize("row", [row for row in ROWS if row.heuristic], ids=lambda row: row.id)
def test_a_guess_can_never_claim_alone(row: Fingerprint) -> None:
    assert row.confidence <= HEURISTIC_CEILING <= 0.7
    assert HEURISTIC_CEILING < CLAIM


def test_only_a_guess_rests_on_made_up_words() -> None:
    assert {row.id for row in ROWS if any(one.synthetic for one in row.example)} == {
        row.id for row in ROWS if row.heuristic
    }


def test_the_vocabulary_is_what_probes_and_operators_supply_and_what_rows_use() -> None:
    assert set(vocabulary().fields) == FIELDS | BY_OPERATOR
    assert set(vocabulary().products) == {row.product for row in ROWS}


def test_no_row_is_about_what_the_facts_call_unknown() -> None:
    """Facts 3.2: no IMAP, FTP, TLS or SIP words and no word of a Px were ever seen."""
    firm = {(row.field, row.says.value) for row in ROWS if row.says in FAMILY and not row.heuristic}
    assert firm == {
        ("smtp.greeting", "allworx-server"),
        ("pop3.greeting", "allworx-server"),
        ("http.server", "allworx"),
        ("http.server", "allworx-server"),
        ("http.title", "allworx-server"),
        ("http.title", "allworx-handset"),
        ("http.www-authenticate", "allworx-server"),
        ("snmp.sysdescr", "allworx-handset"),
        ("snmp.sysobjectid", "allworx"),
        ("snmp.enterprise", "allworx"),
    }


# --- what is VERIFIED in the facts ---------------------------------------------------------------

FACTS: list[tuple[str, str, str, dict[str, str], str | None, dict[str, float]]] = [
    ("F1", "smtp.greeting", "220 h.invalid InSciTek OIS Ready here ESMTP\r\n", {}, None, {"allworx-server": 0.95}),
    ("F2", "pop3.greeting", "+OK POP3 Server h (InSciTek OIS) ready <a@b>\r\n", {}, None, {"allworx-server": 0.95}),
    ("F3", "http.title", "Phone&nbsp;Station&nbsp;Information", OIS, None, {"allworx-handset": 0.95}),
    ("F4", "http.title", "Allworx Hosted Web Site", OIS, None, {"allworx-server": 0.95}),
    ("F5", "http.server", "IST OIS", {"http.status": "403"}, "tcp/8080", {"allworx": 0.9, "allworx-server": 0.6}),
    ("F5 elsewhere", "http.server", "IST OIS", {"http.status": "403"}, "tcp/80", {"allworx": 0.9}),
    ("F6", "http.www-authenticate", 'Digest realm="users@h.invalid",', OIS, None, {"allworx-server": 0.95}),
    ("3.3 sysDescr", "snmp.sysdescr", "ALLWORX 9308", {}, None, {"allworx-handset": 0.95}),
    ("3.3 sysObjectID", "snmp.sysobjectid", ".1.3.6.1.4.1.38516.1.2", {}, None, {"allworx": 0.9}),
    ("3.3 enterprise", "snmp.enterprise", "38516", {}, None, {"allworx": 0.9}),
]  # fmt: skip


@pytest.mark.parametrize(("fact", "field", "value", "said", "port", "expected"), FACTS)
def test_a_verified_fact_is_known(
    fact: str, field: str, value: str, said: dict[str, str], port: str | None, expected: dict[str, float]
) -> None:
    assert classes(field, value, said, port) == expected, f"fact {fact}"


# --- nobody else ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("field", "value", "product"), FOREIGN)
def test_no_foreign_banner_is_taken_for_allworx(field: str, value: str, product: str | None) -> None:
    found = match(field, value, OIS if field != "http.server" else {}, "tcp/8080")
    assert not FAMILY & {support.says for support in found}
    assert {details(support).product for support in found} == ({product} if product else set())


NEAR: list[tuple[str, str, dict[str, str], dict[str, float]]] = [
    ("http.server", "ist ois", {}, {}),
    ("http.server", "IST  OIS", {}, {}),
    ("http.server", "IST OISTER", {}, {}),
    ("http.server", "IST OIS-like", {}, {}),
    ("http.server", "MIST OIS", {}, {}),
    ("http.server", "nginx (IST OIS)", {}, {"other": 0.95}),
    ("http.server", "IST OIS, nginx/1.24.0", {}, {}),  # two headers of one name, joined
    ("http.server", "IST OIS/9.1", {}, {"allworx": 0.9}),
    ("http.server", "IST OIS (9.1)", {}, {"allworx": 0.9}),
    ("http.server", "Allworx", {}, {}),
    ("http.title", "allworx hosted web site", OIS, {}),
    ("http.title", "Allworx Hosted Web Site - not found", OIS, {}),
    ("http.title", "How to hide your Allworx Hosted Web Site", OIS, {}),
    ("http.title", "  Allworx Hosted Web Site ", OIS, {"allworx-server": 0.95}),
    ("http.title", "Allworx Hosted Web Site", {"http.server": "IST OISTER"}, {"allworx-server": 0.5}),
    ("http.title", "Phone\u00a0Station\u00a0Information", OIS, {"allworx-handset": 0.95}),
    ("http.title", "Phone&nbsp;Station Information", OIS, {"allworx-handset": 0.95}),
    ("http.title", "PhoneStationInformation", OIS, {}),
    ("http.title", "Phone Station Information", {"http.server": "nginx"}, {"allworx-handset": 0.5}),
    ("http.www-authenticate", 'digest realm="users@h"', OIS, {}),
    ("http.www-authenticate", 'Digest realm="superusers@h"', OIS, {}),
    ("smtp.greeting", "220 h INSCITEK OIS READY HERE ESMTP", {}, {}),
    ("smtp.greeting", "InSciTek OIS Ready here ESMTP", {}, {}),
    ("smtp.greeting", "554 h InSciTek OIS Ready here ESMTP", {}, {}),
    ("imap.greeting", "* OK h InSciTek OIS Ready here", {}, {}),
    ("pop3.greeting", "+OK POP3 Server h (InSciTek OIS) ready", {}, {}),
    ("pop3.greeting", "+OK POP3 Server h (InSciTek OIS) ready <1.2@b> Dovecot", {}, {}),
    ("snmp.sysdescr", "allworx 9308", {}, {}),
    ("snmp.sysdescr", "ALLWORX 6x12", {}, {}),
    ("snmp.sysdescr", "ALLWORX 9\u0663\u0660\u0668", {}, {}),  # digits, but not of ours
    ("snmp.enterprise", "3851", {}, {}),
    ("snmp.sysobjectid", ".1.3.6.1.4.1.385161", {}, {}),
    ("sip.server", "aLLwORX", {}, {"allworx": 0.6}),
    ("sip.server", "notallworx", {}, {}),
    ("sip.user-agent", "X-Lite (pbx@allworx.example.net)", {}, {}),
    ("sip.user-agent", "Softphone allworx@example.net", {}, {}),
    ("http.title", "GPIO Port Expander", {}, {"allworx-px": 0.5}),
]


@pytest.mark.parametrize(("field", "value", "said", "expected"), NEAR)
def test_a_near_miss_counts_as_the_rows_say(
    field: str, value: str, said: dict[str, str], expected: dict[str, float]
) -> None:
    assert classes(field, value, said, "tcp/80") == expected


LITERALS = {
    "smtp.greeting": r"InSciTek OIS Ready here ESMTP",
    "pop3.greeting": r"\(InSciTek OIS\) ready",
    "http.server": r"^IST OIS",
    "http.title": r"Allworx Hosted Web Site|Phone.+Station.+Information|(?i:port expander)",
    "http.www-authenticate": r'^Digest realm="users@',
    "sip.server": r"(?i:allworx)",
    "sip.user-agent": r"(?i:allworx)",
    "snmp.sysdescr": r"^ALLWORX 9[0-9]{3}$",
    "snmp.sysobjectid": r"1\.3\.6\.1\.4\.1\.38516",
    "snmp.enterprise": r"^38516$",
}
PIECES = (
    "220 ", "+OK ", "POP3 Server ", "InSciTek", "(InSciTek OIS)", "OIS", "IST", "IST OIS", " Ready here ESMTP",
    " ready ", "<a@b>", "ALLWORX ", "allworx", "Allworx Hosted ", "Web Site", "Phone", "&nbsp;", "Station",
    "Information", "9308", "38516", ".1.3.6.1.4.1.", "Digest realm=", '"users@', "port", "expander", " ", "h", "\u017f",
    "\u212a", "\n", "\ud800",
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=7).map("".join)


@given(st.sampled_from(vocabulary().fields), TEXTS, st.sampled_from(["tcp/80", "tcp/8080", "udp/5060"]))
def test_without_its_literal_words_nothing_is_allworx(field: str, value: str, port: str) -> None:
    said = OIS if field != "http.server" else {}
    if FAMILY & {support.says for support in match(field, value, said, port)}:
        assert field in LITERALS
        assert re.search(LITERALS[field], value, re.DOTALL), value


@given(st.text(max_size=80), st.text(), st.dictionaries(st.text(max_size=20), st.text()), st.none() | st.text())
def test_no_text_at_all_makes_it_fail(field: str, value: str, said: dict[str, str], port: str | None) -> None:
    for name in (field, *vocabulary().fields):
        match(name, value, said, port)


# --- time ----------------------------------------------------------------------------------------


def hostile(row: Fingerprint, size: int) -> dict[str, str]:
    """An example broken off after each of its characters and drowned in one that might be repeated there."""
    value = next(example.value for example in row.example if example.match)
    pumps = ((cut, char) for cut in range(len(value) + 1) for char in {*value[max(0, cut - 1) : cut + 1], *"@x1 "})
    return {f"{cut} {char}": value[:cut] + char * size for cut, char in pumps}


@pytest.mark.parametrize("pattern", ["(?<!a)b", "(?=a)b", r"(a)\1", "(?>a+)b", "a++"])
def test_a_pattern_that_could_take_longer_than_its_text_is_no_pattern(tmp_path: Path, pattern: str) -> None:
    """RE2 matches in time proportional to the text; what would need backtracking it refuses."""
    (tmp_path / "rows.toml").write_text(row_text(pattern=f"'{pattern}'"))
    with pytest.raises(ValueError, match="no regular expression of RE2"):
        load(tmp_path, WORDS)


def test_what_takes_forever_elsewhere_is_answered(tmp_path: Path) -> None:
    example = '[{ value = "ab" }, { value = "c", match = false }]'
    (tmp_path / "rows.toml").write_text(row_text(pattern="'^(?:a*)*(?:a|a)*b$'", example=example))
    (row,) = load(tmp_path, WORDS)
    assert row.confidence_in("a" * 999, {}, None) == 0
    assert row.confidence_in("a" * 999 + "b", {}, None) == 0.9


@pytest.mark.parametrize("row", NAMED)
def test_only_the_first_thousand_characters_of_a_flood_are_kept(row: Fingerprint) -> None:
    for value in list(hostile(row, 100_000).values())[::7]:
        assert all(len(s.value) <= TEXT_LIMIT for s in match(row.field, value, OIS, "tcp/8080"))


def test_words_beyond_the_first_thousand_characters_do_not_count() -> None:
    assert classes("http.title", " " * 977 + "Allworx Hosted Web Site", OIS) == {"allworx-server": 0.95}
    assert classes("http.title", " " * 978 + "Allworx Hosted Web Site", OIS) == {}


# --- fingerprint test ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "class_", "confidence", "row"),
    [
        ("http.server", "IST OIS", "allworx", 0.9, "http-ist-ois"),
        ("http.title", "Allworx Hosted Web Site", "allworx-server", 0.5, "http-title-hosted-web-site"),
        ("smtp.greeting", "220 m.example.net ESMTP Postfix", "other", 0.95, "smtp-postfix"),
        ("smtp.greeting", "220 m.example.net ESMTP", None, 0.0, None),
        ("tls.subject", "CN=Allworx", None, 0.0, None),
        ("http.server", "", None, 0.0, None),
    ],
)
def test_one_line_is_answered_as_the_design_says(
    field: str, value: str, class_: str | None, confidence: float, row: str | None
) -> None:
    answer = match_line(field, value)
    assert answer == {"field": field, "value": value, "class": class_, "confidence": confidence, "fingerprint": row}
    assert list(answer) == ["field", "value", "class", "confidence", "fingerprint"]


def test_the_answer_repeats_the_whole_value() -> None:
    value = "IST OIS " + "x" * 5000
    assert match_line("http.server", value)["value"] == value


def test_an_unknown_field_is_wrong_use_and_the_known_ones_are_listed() -> None:
    with pytest.raises(UnknownFieldError, match=r"There is no field 'http\.sever'.*smtp\.greeting, ") as error:
        match_line("http.sever", "IST OIS")
    assert isinstance(error.value, Problem)
    assert "http.server" in error.value.sentences[0]
    assert match("http.sever", "IST OIS") == []


# --- files with mistakes -------------------------------------------------------------------------

WORDS = Vocabulary(("http.server", "http.title"), ("Thing",), {"http.title": ("Login",)})
GOOD = {
    "id": '"a"',
    "field": '"http.server"',
    "pattern": "'^a'",
    "class": '"other"',
    "product": '"Thing"',
    "confidence": "0.9",
    "source": '"a test"',
    "example": '[{ value = "a" }, { value = "b", match = false }]',
}


def row_text(**changes: str | None) -> str:
    facts: dict[str, Any] = GOOD | changes
    return "[[fingerprint]]\n" + "".join(f"{key} = {value}\n" for key, value in facts.items() if value is not None)


def test_a_folder_is_read_file_by_file_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text(row_text(id='"second"'))
    (tmp_path / "a.toml").write_text(row_text(id='"first"'))
    (tmp_path / "notes.txt").write_text("no rows")
    assert [row.id for row in load(tmp_path, WORDS)] == ["first", "second"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (row_text(field='"http.colour"'), "field 'http.colour' is not in vocabulary.toml"),
        (row_text(companion="{ field = 'x', pattern = 'y' }"), "field 'x' is not in vocabulary.toml"),
        (row_text(product='"Thingy"'), "product 'Thingy' is not in vocabulary.toml"),
        (row_text(product=None), "a row of class other needs a product"),
        (row_text(**{"class": '"unknown"'}), "a row of class unknown says nothing"),
        (row_text(**{"class": '"allworks"'}), "class: "),
        (row_text(source='""'), "source: "),
        (row_text(source=None), "source: "),
        (row_text(confidence="0.0"), "confidence: "),
        (row_text(confidence="1.01"), "confidence: "),
        (row_text(heuristic="true", confidence="0.71"), "a heuristic is never surer than 0.7"),
        (row_text(pattern="'('"), "pattern: .*no regular expression"),
        (row_text(pattern="5"), "pattern: .*expected a regular expression in quotes"),
        (row_text(pattern="'(?P<serial>a)'"), "group 'serial' is neither model nor version"),
        (row_text(example='[{ value = "a" }]'), "an example that matches and one that does not"),
        (row_text(example='[{ value = "a", match = false }]'), "an example that matches and one that does not"),
        (row_text(colour='"red"'), "colour: "),
        (row_text() + row_text(), r"fingerprint 2 \(a\): the id is taken"),
        (row_text(id=None), "without an id"),
        ("[[fingerprint]\n", "line 1"),
        ("title = 'x'\n", r"expected \[\[fingerprint\]\] rows and nothing else"),
        ("[fingerprint]\nid = 'a'\n", r"expected \[\[fingerprint\]\] rows and nothing else"),
        ("fingerprint = [1]\n", "without an id"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_file_and_row(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "rows.toml").write_text(text)
    with pytest.raises(ValueError, match=rf"^rows\.toml: (?s:.*){message}"):
        load(tmp_path, WORDS)


def test_a_file_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.toml").write_bytes(b"# \xff\n")
    with pytest.raises(ValueError, match=r"^rows\.toml: "):
        load(tmp_path, WORDS)
