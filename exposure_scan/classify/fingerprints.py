"""The fingerprints as data: their form, how they are read, and what is wrong with one.

Patterns are RE2's, which takes time in proportion to the text whatever the pattern: a pack may come from
anybody. RE2 knows no look-around and no back-references; its ``$`` is the very end of the text.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

import re2
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from exposure_scan.model import DeviceClass, Pack

# A class is claimed from here on. 0.75 lets each verified banner claim alone (0.9 and up) and keeps out
# every single hint (0.6 for an IST OIS on 8080, 0.5 for a title without its server): those need company.
CLAIM = 0.75

# Hints without a captured source behind them stay below CLAIM, however many of them agree.
HEURISTIC_CEILING = 0.7

_SEEN_TEXTS = 16  # that a pattern remembers its answer to
TEXT_LIMIT = 1000  # characters of a text that are looked at; a conversation keeps no more (`Observation.said`)

# In the order that breaks a tie.
MEMBERS = (DeviceClass.SERVER, DeviceClass.HANDSET, DeviceClass.PX)
FAMILY = frozenset({*MEMBERS, DeviceClass.ALLWORX})
PRODUCTS: Mapping[DeviceClass, str] = {
    DeviceClass.SERVER: "Allworx server",
    DeviceClass.HANDSET: "Allworx handset",
    DeviceClass.PX: "Allworx Px Expander",
    DeviceClass.ALLWORX: "Allworx",
}

_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


def _options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False  # a fault is told in our own words
    options.max_mem = 1 << 20
    return options


class Pattern:
    """A regular expression of the data. Texts are from the wire: a digit is 0 to 9, a word is ASCII."""

    def __init__(self, text: str) -> None:
        """Compile it.

        Raises:
            ValueError: it is no regular expression of RE2.
        """
        try:
            self._compiled = re2.compile(text, _options())
        except re2.error as error:
            why = error.args[0] if error.args else ""
            raise ValueError(
                f"no regular expression of RE2: {why.decode() if isinstance(why, bytes) else why}"
            ) from None
        self.text = text
        self.groups: frozenset[str] = frozenset(self._compiled.groupindex)
        self._cached = lru_cache(maxsize=_SEEN_TEXTS)(self._find)  # a port is classified, and then its host

    def find(self, text: str) -> Mapping[str, str | None] | None:
        """The named groups of the first match in the first `TEXT_LIMIT` characters; None without one."""
        return self._cached(text[:TEXT_LIMIT])

    def _find(self, text: str) -> Mapping[str, str | None] | None:
        found = self._compiled.search(text.encode("utf-8", "replace").decode())
        return None if found is None else MappingProxyType(found.groupdict())


def _compiled(text: object) -> Pattern:
    if isinstance(text, Pattern):
        return text
    if not isinstance(text, str):
        raise ValueError("expected a regular expression in quotes")
    return Pattern(text)


_Pattern: TypeAlias = Annotated[Pattern, BeforeValidator(_compiled)]


@checked_dataclass(frozen=True, config=_STRICT)
class Example:
    """A text and what the row must make of it. `synthetic`: ours, for want of a captured one."""

    value: str
    match: bool = True
    model: str | None = None
    version: str | None = None
    said: dict[str, str] = Field(default_factory=dict)  # the companion's text
    port: str | None = None  # "tcp/8080"
    confidence: float | None = None  # None: the row's own
    synthetic: bool = False


@checked_dataclass(frozen=True, config=_STRICT)
class Companion:
    """Another field of the same port whose text makes this one count in full."""

    field: str
    pattern: _Pattern


@checked_dataclass(frozen=True, config=_STRICT)
class Fingerprint:
    """One row of the data: a pattern over one field, what it says, how surely, and by whose word.

    The named groups ``model`` and ``version`` of `pattern` are read out. `confidence` and `alone`
    (without the companion; 0 means no match) are probabilities. `ports`, where given, are the only
    port numbers on which the row counts. `pack` is set by who reads a pack, never in the file.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(?:[.-][a-z0-9]+)*$", max_length=80)]
    field: str
    pattern: _Pattern
    says: Annotated[DeviceClass, Field(alias="class")]
    confidence: Annotated[float, Field(gt=0, le=1)]
    source: Annotated[str, Field(min_length=3)]
    example: tuple[Example, ...]
    product: str | None = None
    heuristic: bool = False
    ports: tuple[int, ...] = ()
    companion: Companion | None = None
    alone: float = Field(default=0.0, ge=0, le=1)
    note: str = ""
    pack: str | None = None

    def confidence_in(self, value: str, said: Mapping[str, str], port: str | None) -> float:
        """How surely the row speaks about this text; 0 where it does not."""
        if self.ports and (port is None or port.rpartition("/")[2] not in {str(number) for number in self.ports}):
            return 0.0
        if self.pattern.find(value) is None:
            return 0.0
        if self.companion is None:
            return self.confidence
        full = self.companion.pattern.find(said.get(self.companion.field, "")) is not None
        return self.confidence if full else self.alone


@checked_dataclass(frozen=True, config=_STRICT)
class Vocabulary:
    """The words that rows may use: fields that a probe or an operator can supply, and product names.

    `generic` are texts that anybody may send, by field: no row may match one.
    """

    fields: tuple[str, ...]
    products: tuple[str, ...]
    generic: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Known:
    """The fingerprints that a classification goes by: those that came with the scanner, and packs'."""

    rows: tuple[Fingerprint, ...]
    packs: Mapping[str, Pack] = field(default_factory=dict)  # by name

    @cached_property
    def by_field(self) -> Mapping[str, tuple[Fingerprint, ...]]:
        """The rows about each field."""
        found: dict[str, list[Fingerprint]] = {}
        for row in self.rows:
            found.setdefault(row.field, []).append(row)
        return {name: tuple(rows) for name, rows in found.items()}

    @cached_property
    def by_id(self) -> Mapping[tuple[str | None, str], Fingerprint]:
        """The rows by pack (None: the scanner's own) and id."""
        return {(row.pack, row.id): row for row in self.rows}


# --- reading -------------------------------------------------------------------------------------


@cache
def built_in() -> Known:
    """The rows that came with the scanner, file by file in the order of their names.

    Raises:
        ValueError: a malformed file, with the file and the row.
    """
    return Known(load(files("exposure_scan") / "data" / "fingerprints", vocabulary()))


@cache
def vocabulary() -> Vocabulary:
    """The words of ``data/vocabulary.toml``.

    Raises:
        ValueError: it is malformed.
    """
    path = files("exposure_scan") / "data" / "vocabulary.toml"
    return TypeAdapter(Vocabulary).validate_python(parse(path.read_text("utf-8"), path.name))


def load(folder: Traversable, words: Vocabulary) -> tuple[Fingerprint, ...]:
    """The rows of every ``*.toml`` in `folder`, checked against `words` and against each other.

    Raises:
        ValueError: a malformed file, with the file and the row.
    """
    rows: dict[str, Fingerprint] = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.endswith(".toml"):
            try:
                table = parse(path.read_text("utf-8"), path.name)
            except UnicodeDecodeError as error:
                raise ValueError(f"{path.name}: {error}") from None
            rows |= read_rows(table, path.name, words, earlier=rows)
    return tuple(rows.values())


def parse(text: str, name: str) -> dict[str, Any]:
    """The TOML document `text`; `name` stands in what is said of its mistakes.

    Raises:
        ValueError: it is none.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"{name}: it is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and numbers of thousands of digits
        raise ValueError(f"{name}: {error}") from None


def read_rows(
    table: Mapping[str, Any],
    name: str,
    words: Vocabulary,
    earlier: Mapping[str, Fingerprint],
    pack: str | None = None,
) -> dict[str, Fingerprint]:
    """The ``[[fingerprint]]`` rows of a document, by id; `pack` is the pack that they belong to.

    Raises:
        ValueError: a malformed row, with `name` and the row.
    """
    if set(table) != {"fingerprint"} or not isinstance(table["fingerprint"], list):
        raise ValueError(f"{name}: expected [[fingerprint]] rows and nothing else")
    reader = TypeAdapter(Fingerprint)
    rows: dict[str, Fingerprint] = {}
    for number, raw in enumerate(table["fingerprint"], 1):
        own = raw.get("id") if isinstance(raw, dict) else None
        where = f"{name}: fingerprint {number} ({own or 'without an id'})"
        try:
            row = reader.validate_python({**raw, "pack": pack} if isinstance(raw, dict) else raw)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"{where}: {key}: {first['msg']}") from None
        if "pack" in raw:
            raise ValueError(f"{where}: pack: a row does not say where it is from")
        if row.id in earlier or row.id in rows:
            raise ValueError(f"{where}: the id is taken")
        if wrong := next(iter(_form_faults(row, words)), None):
            raise ValueError(f"{where}: {wrong}")
        rows[row.id] = row
    return rows


def _form_faults(row: Fingerprint, words: Vocabulary) -> Iterable[str]:
    """What is wrong with the form of a row that is well-typed."""
    fields = [row.field, *([row.companion.field] if row.companion else [])]
    for unknown in (name for name in fields if name not in words.fields):
        yield f"field {unknown!r} is not in vocabulary.toml"
    if row.says is DeviceClass.UNKNOWN:
        yield "a row of class unknown says nothing"
    if row.says is DeviceClass.OTHER and row.product is None:
        yield "a row of class other needs a product"
    if row.product is not None and words.products and row.product not in words.products:
        yield f"product {row.product!r} is not in vocabulary.toml"
    if row.heuristic and row.confidence > HEURISTIC_CEILING:
        yield f"a heuristic is never surer than {HEURISTIC_CEILING}"
    if groups := row.pattern.groups - {"model", "version"}:
        yield f"group {min(groups)!r} is neither model nor version"
    if not any(one.match for one in row.example) or all(one.match for one in row.example):
        yield "it needs an example that matches and one that does not"


# --- the tests that every row has to pass ---------------------------------------------------------


def faults(row: Fingerprint, others: Sequence[Fingerprint], words: Vocabulary) -> list[str]:
    """What is wrong with what a row says: its own examples, and the texts of others that it would claim.

    The same for the rows that came with the scanner and for those of a pack.
    """
    found = []
    for number, example in enumerate(row.example, 1):
        sure = row.confidence_in(example.value, example.said, example.port)
        expected = (row.confidence if example.confidence is None else example.confidence) if example.match else 0.0
        if sure != expected:
            found.append(f"example {number} gives a confidence of {sure}, not {expected}")
        elif example.match:
            groups = row.pattern.find(example.value) or {}
            if (groups.get("model"), groups.get("version")) != (example.model, example.version):
                found.append(f"example {number} names another model or version than it says")
    found += [
        f"it takes {text[:60]!r} for its own, which anybody may say"
        for text in ("", *words.generic.get(row.field, ()))
        if row.confidence_in(text, _company(row), _port(row))
    ]
    found += [
        f"it takes the words of {other.product or other.says} for its own: {example.value[:80]!r}"
        for other in others
        if other.field == row.field and _opposed(row, other)
        for example in other.example
        if example.match and row.confidence_in(example.value, _company(row) | example.said, _port(row))
    ]
    return found


def _opposed(row: Fingerprint, other: Fingerprint) -> bool:
    """What one claims the other denies, and neither is a guess."""
    return contradict(row.says, other.says) and not (row.heuristic or other.heuristic)


def contradict(one: DeviceClass, other: DeviceClass) -> bool:
    """Whether the same port cannot be both: the vendor's and somebody else's, or two of the vendor's classes."""
    if one in MEMBERS and other in MEMBERS:
        return one is not other
    return (one in FAMILY) != (other in FAMILY)


def _company(row: Fingerprint) -> dict[str, str]:
    """The company that lets the row speak as surely as it can."""
    return next((dict(one.said) for one in row.example if one.match and one.said), {})


def _port(row: Fingerprint) -> str | None:
    return f"tcp/{row.ports[0]}" if row.ports else None
