"""Learning from a unit of one's own: which of its words are its own, stay the same, and may be written down.

What was heard in several tries becomes rows of a pack. Names, addresses, serial numbers, nonces and dates
are taken out; what differs between tries is left open; what anybody may say, or another product says, is
no mark of this unit and is left aside, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import zip_longest
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from exposure_scan.model import DeviceClass
from exposure_scan.model.text import toml_text

from .fingerprints import CLAIM, FAMILY, PRODUCTS, Known, built_in, parse
from .packs import read_pack
from .weigh import details, match

_LEARNT = 0.8  # one unit's word: enough for a claim, and for no more
_TITLE_ALONE = 0.5  # a page's title without the server that it was learnt with
_LETTERS = 4  # of words that are not the protocol's, at least
_LONGEST = 300  # characters of a text


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid", defer_build=True))
class _TakenOut:
    """What is taken out of every text: how it is found, what may stand there, what stands there instead."""

    kind: str
    finds: re.Pattern[str]
    allows: str
    instead: str


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid", defer_build=True))
class _Rules:
    fields: tuple[str, ...]
    common: frozenset[str]
    taken_out: Annotated[tuple[_TakenOut, ...], Field(alias="taken-out")]


@cache
def _rules() -> _Rules:
    """The file ``data/learning.toml``."""
    path = files("exposure_scan") / "data" / "learning.toml"
    return TypeAdapter(_Rules).validate_python(parse(path.read_text("utf-8"), path.name))


_VARIES = (r"[^\s\"]{1,200}", "varies")
_WORD = re.compile(r"\w+|\W", re.ASCII)


@dataclass(frozen=True, slots=True)
class Unit:
    """What the operator says of the unit on the bench."""

    class_: DeviceClass
    model: str | None
    software: str | None
    origin: str  # who learnt it, when, from what; one line


@dataclass(frozen=True, slots=True)
class Part:
    """One text of the unit as it would be written down, and what becomes of it; `kept` says whether it is a row."""

    ports: tuple[str, ...]
    field: str
    text: str  # redacted; what is open stands in square brackets
    kept: bool
    because: str


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the unit taught: all its parts, and the pack, None where nothing tells it from others."""

    parts: tuple[Part, ...]
    pack: str | None
    confidence: float = 0.0  # with which the next scan takes it for its class


@dataclass(frozen=True, slots=True)
class _Piece:
    """A run of text: literal words, or something open with what may stand there and an instance of it."""

    text: str
    kind: str = ""  # empty for literal words
    allows: str = ""

    @property
    def pattern(self) -> str:
        return self.allows if self.kind else "".join(map(_literal, self.text))

    @property
    def shown(self) -> str:
        return f"[{self.kind}]" if self.kind else self.text


def _literal(char: str) -> str:
    """A character as RE2 reads it: it knows a backslash before ASCII marks alone, and the rest by its number."""
    if char.isascii() and char.isprintable():
        return char if char.isalnum() or char in "_ " else f"\\{char}"
    return char if char.isprintable() else f"\\x{{{ord(char):x}}}"


def learn(tries: Sequence[Mapping[str, Mapping[str, str]]], unit: Unit, name: str) -> Lesson:
    """What several scans of one unit teach.

    Args:
        tries: for each scan, what each port said, by ``tcp/80`` and by field.
        unit: the operator's word on what it is.
        name: the pack's.
    """
    parts: list[Part] = []
    rows: dict[tuple[str, str], dict[str, object]] = {}
    ports = {(port, field) for one in tries for port, said in one.items() for field in said if field in _rules().fields}
    places: dict[tuple[str, str], list[str]] = {}
    for port, field in sorted(ports, key=lambda pair: (_rules().fields.index(pair[1]), pair[0])):
        texts = [one.get(port, {}).get(field) for one in tries]
        heard = [text for text in texts if text is not None]
        pieces = _same(heard, unit) if len(heard) == len(texts) else None
        if pieces is None:
            form = "".join(piece.shown for piece in _redact(heard[0], unit))
            why = (
                f"it came in {len(heard)} of {len(texts)} tries" if len(heard) < len(texts) else "it is never the same"
            )
            parts.append(Part((port,), field, form, False, why))
            continue
        form = "".join(piece.shown for piece in pieces)
        if (field, form) in places:
            places[field, form].append(port)
            continue
        places[field, form] = [port]
        if (common := _not_its_own(field, heard[0], pieces, tries[0][port], port)) is not None:
            parts.append(Part((port,), field, form, False, common))
            continue
        parts.append(Part((port,), field, form, True, "the same in every try"))
        rows[field, form] = _row(field, pieces, unit, tries[0][port])
    parts = [
        Part(tuple(places.get((part.field, part.text), part.ports)), part.field, part.text, part.kept, part.because)
        for part in parts
    ]
    if not rows:
        return Lesson(tuple(parts), None)
    text = _document(list(rows.values()), unit, name)
    _, own = read_pack(text, name)  # a pack that would not be read is a fault of ours
    return Lesson(tuple(parts), text, _confidence(Known((*built_in().rows, *own)), tries[0], unit.class_))


def _confidence(known: Known, said: Mapping[str, Mapping[str, str]], class_: DeviceClass) -> float:
    surest = [
        support.confidence
        for port, words in said.items()
        for field, value in words.items()
        for support in match(field, value, words, port, known)
        if support.says is class_
    ]
    return max(surest, default=0.0)


# --- the words -----------------------------------------------------------------------------------


def _redact(text: str, unit: Unit) -> list[_Piece]:
    """The text with everything taken out that names somebody, or that a clock or a die made."""
    text = text[:_LONGEST]
    pieces: list[_Piece] = []
    if host := re.match(r"(220[ -])(\S+)(?= )", text, re.ASCII):  # RFC 5321, section 4.2: the host's own name
        pieces += [_Piece(host[1]), _Piece("redacted.invalid", "name", r"\S{1,255}")]
        text = text[host.end() :]
    finders = [*_own_finders(unit), *_rules().taken_out]
    while text:
        hits = [(found, one) for one in finders if (found := one.finds.search(text)) and found[0]]
        if not hits:
            break
        found, one = min(hits, key=lambda hit: hit[0].start())
        if found.start():
            pieces.append(_Piece(text[: found.start()]))
        pieces.append(_Piece(one.instead, one.kind, one.allows))
        text = text[found.end() :]
    return [*pieces, *([_Piece(text)] if text else [])]


def _own_finders(unit: Unit) -> Iterable[_TakenOut]:
    """The unit's version and model, where they show: they are read out, and other versions are as good."""
    if unit.software:
        finds = re.compile(rf"(?<![\d.]){re.escape(unit.software)}(?![\w.]*\w)")
        yield _TakenOut("version", finds, r"(?P<version>[0-9]+(?:\.[0-9]+)+)", unit.software)
    if unit.model:
        finds = re.compile(rf"(?<!\w){re.escape(unit.model)}(?!\w)")
        yield _TakenOut("model", finds, f"(?P<model>{_Piece(unit.model).pattern})", unit.model)


def _same(texts: Sequence[str], unit: Unit) -> list[_Piece] | None:
    """The pieces that all tries share, with what differs left open; None where they share no form."""
    redacted = [_redact(text, unit) for text in texts]
    words = [
        [piece if piece.kind else _Piece(word) for piece in pieces for word in _words_of(piece)] for pieces in redacted
    ]
    if len({len(one) for one in words}) != 1:
        return None
    same: list[_Piece] = []
    for column in zip_longest(*words):
        first = column[0]
        if any(piece != first for piece in column):
            if any(piece.kind or not piece.text.isalnum() for piece in column):
                return None
            first = _Piece(_VARIES[1], "varies", _VARIES[0])
        if same and not first.kind and not same[-1].kind:
            same[-1] = _Piece(same[-1].text + first.text)
        elif not (same and first.kind == same[-1].kind == "varies"):
            same.append(first)
    return _once(same)


def _words_of(piece: _Piece) -> list[str]:
    return [piece.text] if piece.kind else _WORD.findall(piece.text)


def _once(pieces: Sequence[_Piece]) -> list[_Piece]:
    """A pattern may name a group once; a version that shows twice is open the second time."""
    seen: set[str] = set()
    found = []
    for piece in pieces:
        if piece.kind in ("version", "model"):
            if piece.kind in seen:
                piece = _Piece(
                    piece.text, "varies", r"\S{1,60}" if piece.kind == "version" else _Piece(piece.text).pattern
                )
            seen.add(piece.kind)
        found.append(piece)
    return found


def _not_its_own(field: str, heard: str, pieces: Sequence[_Piece], said: Mapping[str, str], port: str) -> str | None:
    """Why the text tells this unit from nobody; None where it does."""
    for support in match(field, heard, said, port):
        if support.heuristic:
            continue
        if support.says is DeviceClass.OTHER:
            return f"these are the words of {details(support).product}, which others run too"
        return f"it is known already, as {PRODUCTS[support.says]}"
    letters = sum(
        len(word)
        for piece in pieces
        if not piece.kind or piece.kind == "model"
        for word in re.findall(r"[^\W\d_]+", piece.text)
        if len(word) > 2 and word.lower() not in _rules().common
    )
    if letters < _LETTERS:
        return "anybody may say that"
    return None


# --- the pack ------------------------------------------------------------------------------------


def _row(field: str, pieces: Sequence[_Piece], unit: Unit, said: Mapping[str, str]) -> dict[str, object]:
    value = "".join(piece.text for piece in pieces)
    row: dict[str, object] = {
        "field": field,
        "pattern": "^" + "".join(piece.pattern for piece in pieces) + "$",
        "class": unit.class_.value,
        "product": PRODUCTS[unit.class_],
        "confidence": _LEARNT,
        "source": unit.origin,
    }
    example: dict[str, object] = {"value": value}
    example |= {piece.kind: piece.text for piece in pieces if piece.kind in ("version", "model")}
    server = said.get("http.server", "")
    if field == "http.title" and any(
        one.says in FAMILY and one.confidence >= CLAIM for one in match("http.server", server)
    ):
        row |= {"companion": {"field": "http.server", "pattern": f"^{_Piece(server).pattern}$"}, "alone": _TITLE_ALONE}
        example["said"] = {"http.server": server}
    row["example"] = [example, {"value": f"not {value}", "match": False}]
    return row


def _document(rows: Sequence[dict[str, object]], unit: Unit, name: str) -> str:
    numbers: dict[str, int] = {}
    named = []
    for row in rows:
        field = str(row["field"])
        numbers[field] = numbers.get(field, 0) + 1
        id_ = field if numbers[field] == 1 else f"{field}.{numbers[field]}"
        named.append({"id": id_, **row})
    head = (
        "# A fingerprint pack. Names, addresses, serial numbers, nonces and dates were taken out; read it all the\n"
        "# same before you share it. Answers are examples, and an example with match = false is made up.\n\n"
    )
    import tomli_w

    return head + toml_text(tomli_w.dumps({"pack": {"name": name, "origin": unit.origin}, "fingerprint": named}))
