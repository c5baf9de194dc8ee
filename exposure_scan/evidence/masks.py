"""Which bytes of a text the customer's copy does not show: nonces, serials and names of hosts.

The rules are data (``data/redaction.toml``). A masked byte becomes ``x``: every length stays, and the same
conversations can be repeated.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from ipaddress import ip_address
from typing import Annotated, Literal, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

X = b"x"
_MOST_ROUNDS = 12  # what is masked may bring a further name to light; a text that goes on so is made to
_MOST_WORDS = 300
_SHORTEST_WORD = 5  # bytes of a label that is masked wherever it shows
_LONGEST_WORD = 63  # RFC 1035, section 2.3.4

_DOTTED = re.compile(rb"(?:^[0-9]{3}-|(?<![\w\x80-\xff-]))([\w\x80-\xff-]+(?:\.[\w\x80-\xff-]+)+)", re.MULTILINE)
_LAST_LABEL = re.compile(rb"(?:[A-Za-z\x80-\xff]{2,63}|xn--[\w-]{1,59})", re.IGNORECASE)
_CAMEL = re.compile(rb"[a-z][A-Z]")  # a program's word: getElementById
_VERSION = re.compile(rb"[vr]?[0-9]+\w?[0-9]*", re.IGNORECASE)
_WORDS = re.compile(rb"[\w.-]+")
_ALPHANUMERIC = re.compile(rb"[0-9A-Za-z\x80-\xff]")


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class _Mask:
    """A row of the data: what is found so, and examples of it."""

    kind: Literal["nonce", "serial", "name", "place"]
    finds: str
    example: tuple[tuple[str, str], ...]
    whole: bool = False  # all of it is masked, whatever groups there are and whatever it reads as


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class _Data:
    keep: frozenset[str]
    common: frozenset[str]
    files: frozenset[str]
    masks: Annotated[tuple[_Mask, ...], Field(alias="mask")]


@dataclass(frozen=True, slots=True)
class _Rule:
    kind: str
    finds: re.Pattern[bytes]
    whole: bool

    @property
    def stays(self) -> bool:
        """Whether an address, or a word of ours, may stand where this rule looks."""
        return self.kind != "nonce" and not self.whole


@dataclass(frozen=True, slots=True)
class _Rules:
    rules: tuple[_Rule, ...]
    keep: frozenset[bytes]
    common: frozenset[bytes]
    files: frozenset[bytes]


class Span(NamedTuple):
    """Bytes to mask: from `start` to before `end`; `kind` as in the data."""

    start: int
    end: int
    kind: str


def examples() -> Iterator[tuple[str, str, str]]:
    """Each example of the data: the rule's pattern, a text, and the text as masked."""
    for row in _data().masks:
        yield from ((row.finds, text, masked) for text, masked in row.example)


@cache
def _data() -> _Data:
    path = files("exposure_scan") / "data" / "redaction.toml"
    return TypeAdapter(_Data).validate_python(tomllib.loads(path.read_text("utf-8")))


@cache
def _rules() -> _Rules:
    data = _data()
    flags = re.IGNORECASE | re.MULTILINE
    return _Rules(
        tuple(_Rule(row.kind, re.compile(row.finds.encode(), flags), row.whole) for row in data.masks),
        *(frozenset(word.encode() for word in words) for words in (data.keep, data.common, data.files)),
    )


def own_words(sent: bytes) -> frozenset[bytes]:
    """The words of what we sent, lower case: who repeats them tells nothing of himself."""
    return frozenset(word.lower().strip(b".") for word in _WORDS.findall(sent))


def spans(text: bytes, own: Collection[bytes] = ()) -> Iterator[Span]:
    """What is to be masked in `text`, in no order; spans may lie over each other. `own` are words of ours."""
    rules = _rules()
    for rule in rules.rules:
        for found in rule.finds.finditer(text):
            groups = range(1, len(found.regs)) if len(found.regs) > 1 and not rule.whole else (0,)
            for number in groups:
                start, end = found.span(number)
                if start < end and not (rule.stays and _stays(text[start:end], own, rules)):
                    yield Span(start, end, rule.kind)
    for found in _DOTTED.finditer(text):
        if _is_name(found[1], rules) and not _stays(found[1], own, rules):
            yield Span(*found.span(1), "place")


def _stays(text: bytes, own: Collection[bytes], rules: _Rules) -> bool:
    """An address, a word of ours, or a word that names no host."""
    word = text.lower().strip(b".-")
    if not word or word in own or word in rules.keep:
        return True
    try:
        ip_address(word.decode("latin-1"))
    except ValueError:
        return False
    return True


def _is_name(text: bytes, rules: _Rules) -> bool:
    """Whether a dotted word may be a host's name: no number, version, file or word of a program."""
    *labels, last = text.rstrip(b".-").split(b".")
    if not _LAST_LABEL.fullmatch(last) or last.lower() in rules.files or _CAMEL.search(last):
        return False
    return any(not _VERSION.fullmatch(label) for label in labels)


def words_of(name: bytes) -> Iterator[bytes]:
    """The words of a host's name, lower case, that give it away elsewhere: its labels, but for common ones."""
    *labels, last = name.lower().strip(b".-").split(b".")
    for label in labels or [last]:
        long = _SHORTEST_WORD <= len(label) <= _LONGEST_WORD
        if long and not label.isdigit() and label.strip(X) and label not in _rules().common | _rules().keep:
            yield label


def finder(words: Iterable[bytes]) -> re.Pattern[bytes] | None:
    """What finds any of these words; None where there are none."""
    some = sorted(set(words), key=lambda word: (-len(word), word))[:_MOST_WORDS]
    if not some:
        return None
    return re.compile(rb"(?<!\w)(?:" + b"|".join(map(re.escape, some)) + rb")(?!\w)", re.IGNORECASE)


def all_spans(text: bytes, own: Collection[bytes], words: re.Pattern[bytes] | None) -> Iterator[Span]:
    """`spans`, and the words that gave a host away elsewhere."""
    yield from spans(text, own)
    if words is not None:
        for found in words.finditer(text):
            if not _stays(found[0], own, _rules()):
                yield Span(*found.span(), "name")


def mask(text: bytes, own: Collection[bytes], words: re.Pattern[bytes] | None, spare: Collection[bytes] = ()) -> bytes:
    """The text with all its spans masked, over and over until none is left; what is in `spare` stays."""
    for _ in range(_MOST_ROUNDS):
        made = bytearray(text)
        for span in all_spans(text, own, words):
            if text[span.start : span.end] not in spare:
                made[span.start : span.end] = X * (span.end - span.start)
        if made == text:
            return text
        text = bytes(made)
    return _ALPHANUMERIC.sub(X, text)
