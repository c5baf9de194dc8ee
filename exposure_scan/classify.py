"""What each port is, then what the host is: fingerprints applied to what was said, with evidence.

Pure functions over the model's types. Every fact about a vendor stands in ``data/fingerprints/*.toml``
with its source and its examples; this file only weighs. A class that the evidence does not carry is
not claimed: better "Allworx, class unknown" than a wrong name.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from math import prod
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from .model import Device, DeviceClass, Port, Problem, Site, Support

# A class is claimed from here on. 0.75 lets each verified banner claim alone (0.9 and up) and keeps out
# every single hint (0.6 for an IST OIS on 8080, 0.5 for a title without its server): those need company.
CLAIM = 0.75

# Hints without a captured source behind them stay below CLAIM, however many of them agree.
HEURISTIC_CEILING = 0.7

TEXT_LIMIT = 1000  # characters of a text that are looked at; a conversation keeps no more (`Observation.said`)

# In the order that breaks a tie.
MEMBERS = (DeviceClass.SERVER, DeviceClass.HANDSET, DeviceClass.PX)
FAMILY = frozenset({*MEMBERS, DeviceClass.ALLWORX})

_NOTHING: Mapping[str, str] = MappingProxyType({})
_STRICT = ConfigDict(extra="forbid")


def _compiled(text: object) -> re.Pattern[str]:
    """A pattern of the data. Banners are bytes from the wire: a digit is 0 to 9, a word is ASCII."""
    if not isinstance(text, str):
        raise ValueError("expected a regular expression in quotes")
    try:
        return re.compile(text, re.ASCII)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None


_Pattern: TypeAlias = Annotated[re.Pattern[str], BeforeValidator(_compiled)]

# --- the data ------------------------------------------------------------------------------------


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
    port numbers on which the row counts.
    """

    id: str
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


@checked_dataclass(frozen=True, config=_STRICT)
class Vocabulary:
    """The words that rows may use: fields that a probe or an operator can supply, and product names."""

    fields: tuple[str, ...]
    products: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Details:
    """What a match names beyond the class."""

    product: str | None = None
    model: str | None = None
    version: str | None = None


class UnknownFieldError(Problem, ValueError):
    """A field that no fingerprint can be about; the sentence lists those that can."""


@cache
def fingerprints() -> tuple[Fingerprint, ...]:
    """All rows, file by file in the order of their names.

    Raises:
        ValueError: a malformed file, with the file and the row.
    """
    return load(files(__package__) / "data" / "fingerprints", vocabulary())


@cache
def vocabulary() -> Vocabulary:
    """The words of ``data/vocabulary.toml``.

    Raises:
        ValueError: it is malformed.
    """
    return TypeAdapter(Vocabulary).validate_python(_toml(files(__package__) / "data" / "vocabulary.toml"))


def load(folder: Traversable, words: Vocabulary) -> tuple[Fingerprint, ...]:
    """The rows of every ``*.toml`` in `folder`, checked against `words` and against each other.

    Raises:
        ValueError: a malformed file, with the file and the row.
    """
    rows: dict[str, Fingerprint] = {}
    reader = TypeAdapter(Fingerprint)
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if not path.name.endswith(".toml"):
            continue
        table = _toml(path)
        if set(table) != {"fingerprint"} or not isinstance(table["fingerprint"], list):
            raise ValueError(f"{path.name}: expected [[fingerprint]] rows and nothing else")
        for number, raw in enumerate(table["fingerprint"], 1):
            name = raw.get("id") if isinstance(raw, dict) else None
            where = f"{path.name}: fingerprint {number} ({name or 'without an id'})"
            try:
                row = reader.validate_python(raw)
            except ValidationError as error:
                first = error.errors()[0]
                key = ".".join(str(part) for part in first["loc"])
                raise ValueError(f"{where}: {key}: {first['msg']}") from None
            if wrong := _fault(row, rows, words):
                raise ValueError(f"{where}: {wrong}")
            rows[row.id] = row
    return tuple(rows.values())


def _toml(path: Traversable) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name}: {error}") from None


def _fault(row: Fingerprint, earlier: Mapping[str, Fingerprint], words: Vocabulary) -> str | None:
    """What is wrong with a row that is well-formed in itself."""
    fields = [row.field, *([row.companion.field] if row.companion else [])]
    if row.id in earlier:
        return "the id is taken"
    if unknown := [field for field in fields if field not in words.fields]:
        return f"field {unknown[0]!r} is not in vocabulary.toml"
    if row.says is DeviceClass.UNKNOWN:
        return "a row of class unknown says nothing"
    if row.product is not None and row.product not in words.products:
        return f"product {row.product!r} is not in vocabulary.toml"
    if row.says is DeviceClass.OTHER and row.product is None:
        return "a row of class other needs a product"
    if row.heuristic and row.confidence > HEURISTIC_CEILING:
        return f"a heuristic is never surer than {HEURISTIC_CEILING}"
    if groups := set(row.pattern.groupindex) - {"model", "version"}:
        return f"group {min(groups)!r} is neither model nor version"
    if not any(one.match for one in row.example) or all(one.match for one in row.example):
        return "it needs an example that matches and one that does not"
    return None


# --- one text ------------------------------------------------------------------------------------


def match(field: str, value: str, said: Mapping[str, str] = _NOTHING, port: str | None = None) -> list[Support]:
    """The fingerprints that `value` matches, the surest first; never raises, whatever the text.

    Args:
        field: where the text comes from: ``smtp.greeting``, ``http.server``, ...
        value: the text as received; its first 1,000 characters count.
        said: the same port's other texts, for rows that ask for company.
        port: ``tcp/8080``, for rows that hold on one port only; None leaves those out.
    """
    found = [(confidence, row) for row in _rows_of(field) if (confidence := _confidence(row, value, said, port))]
    return [
        Support(
            fingerprint=row.id,
            says=row.says,
            confidence=confidence,
            field=field,
            value=value[:TEXT_LIMIT],
            heuristic=row.heuristic,
        )
        for confidence, row in sorted(found, key=lambda pair: -pair[0])
    ]


def details(support: Support) -> Details:
    """Product, model and version that a match names; all None where its fingerprint is not ours."""
    row = _rows_by_id().get(support.fingerprint)
    found = row.pattern.search(support.value) if row else None
    if row is None or found is None:
        return Details()
    groups = found.groupdict()
    return Details(row.product, groups.get("model"), groups.get("version"))


def match_line(field: str, value: str) -> dict[str, str | float | None]:
    """One answer of ``exposure-scan fingerprint test``: the best match, class None where none does.

    Raises:
        UnknownFieldError: (a Problem and a ValueError) no fingerprint can be about this field.
    """
    if field not in vocabulary().fields:
        known = ", ".join(vocabulary().fields)
        raise UnknownFieldError(f"There is no field {field[:60]!r}. The known fields are: {known}.")
    best = next(iter(match(field, value)), None)
    return {
        "field": field,
        "value": value,
        "class": best.says.value if best else None,
        "confidence": best.confidence if best else 0.0,
        "fingerprint": best.fingerprint if best else None,
    }


@cache
def _rows_of(field: str) -> tuple[Fingerprint, ...]:
    return tuple(row for row in fingerprints() if row.field == field)


@cache
def _rows_by_id() -> dict[str, Fingerprint]:
    return {row.id: row for row in fingerprints()}


def _confidence(row: Fingerprint, value: str, said: Mapping[str, str], port: str | None) -> float:
    """How surely the row speaks about this text; 0 where it does not."""
    if row.ports and (port is None or port.rpartition("/")[2] not in {str(number) for number in row.ports}):
        return 0.0
    if not row.pattern.search(value[:TEXT_LIMIT]):
        return 0.0
    if row.companion is None:
        return row.confidence
    other = said.get(row.companion.field, "")
    return row.confidence if row.companion.pattern.search(other[:TEXT_LIMIT]) else row.alone


# --- one port ------------------------------------------------------------------------------------


def classify_port(port: Port) -> Port:
    """The port with `device` and `product` filled in from what it said.

    `device` is None where nothing known was said, and of class unknown (confidence 0) where the
    matches are too weak to claim anything; they stand in its `support` all the same.
    """
    supports = _supports(port)
    if not supports:
        return port.model_copy(update={"device": None, "product": None})
    device = _observed((port,))[0]
    decided = [details(support) for support in device.support if device.class_ is not DeviceClass.UNKNOWN]
    update: dict[str, object] = {"support": tuple(supports)}
    if device.class_ is DeviceClass.OTHER:
        update["version"] = decided[0].version
    product = next((found.product for found in decided if found.product), None)
    return port.model_copy(update={"device": device.model_copy(update=update), "product": product})


def _supports(port: Port) -> list[Support]:
    """All that the port's texts match, with the port's evidence, the surest first."""
    found = [
        support.model_copy(update={"evidence": port.evidence})
        for field, value in port.said.items()
        for support in match(field, value, port.said, port.key)
    ]
    return sorted(found, key=lambda support: -support.confidence)


def _probability(supports: Iterable[Support]) -> float:
    """How surely the supports together say the same: 1 - (1 - c1)(1 - c2)...

    One field is one witness, however many rows it matches and however many ports repeat it, in the same
    words or in others. What rests on heuristics fills up to their ceiling and no further.
    """
    surest: dict[bool, dict[str, float]] = {False: {}, True: {}}
    for support in supports:
        witnesses = surest[support.heuristic]
        witnesses[support.field] = max(witnesses.get(support.field, 0.0), support.confidence)
    firm = 1 - prod(1 - confidence for confidence in surest[False].values())
    hints = [confidence for field, confidence in surest[True].items() if field not in surest[False]]
    together = 1 - (1 - firm) * prod(1 - confidence for confidence in hints)
    return round(max(firm, min(together, HEURISTIC_CEILING)), 4)


def _members(supports: Sequence[Support]) -> list[tuple[DeviceClass, float]]:
    """The member classes sure enough to claim, the surest first; on a tie the server."""
    sure = [(class_, _probability(_saying(supports, {class_}))) for class_ in MEMBERS]
    return sorted(((class_, p) for class_, p in sure if p >= CLAIM), key=lambda pair: -pair[1])


def _saying(supports: Iterable[Support], classes: Iterable[DeviceClass]) -> list[Support]:
    return [support for support in supports if support.says in classes]


def _device(class_: DeviceClass, confidence: float, supports: Sequence[Support]) -> Device:
    """A device by what speaks for it. Of other products only the port has a version; here they are several."""
    named = [details(support) for support in supports if support.says in FAMILY]
    evidence = dict.fromkeys(id_ for support in supports for id_ in support.evidence)
    return Device(
        class_=class_,
        confidence=confidence,
        model=next((found.model for found in named if found.model), None),
        version=next((found.version for found in named if found.version), None),
        evidence=tuple(evidence),
        support=tuple(supports),
    )


# --- one host ------------------------------------------------------------------------------------


def classify_host(ports: Sequence[Port], site: Site) -> tuple[Device, tuple[Device, ...]]:
    """The host's main device and the further ones behind the same address.

    A server and a handset behind one address are two devices; the main one is the surer, on a tie the
    server. Of products that are not Allworx, one device stands for all, and only their ports name
    them. What the operator declared is never mixed with what was seen: a declared device has
    `declared` set and confidence 0, and becomes the main one only where no Allworx class was seen.
    """
    observed = _observed(ports)
    declared = site.device
    if declared is None or declared not in MEMBERS:
        return observed[0], observed[1:]
    if any(device.class_ is declared for device in observed):
        observed = tuple(
            device.model_copy(update={"model": device.model or site.model}) if device.class_ is declared else device
            for device in observed
        )
        return observed[0], observed[1:]
    word = Device(class_=declared, confidence=0.0, declared=True, model=site.model)
    if observed[0].class_ in MEMBERS:
        return observed[0], (*observed[1:], word)
    return word, tuple(device for device in observed if device.class_ is not DeviceClass.UNKNOWN)


def _observed(ports: Sequence[Port]) -> tuple[Device, ...]:
    """Every device that the wire shows, the main one first; at least one, of class unknown."""
    by_port = [_supports(port) for port in sorted(ports, key=lambda port: (port.transport, port.port))]
    supports = sorted((support for found in by_port for support in found), key=lambda support: -support.confidence)
    found = [_device(class_, sure, _saying(supports, {class_})) for class_, sure in _members(supports)]
    family = _saying(supports, FAMILY)
    if not found and (sure := _probability(family)) >= CLAIM:
        found.append(_device(DeviceClass.ALLWORX, sure, family))
    # An `other` is a port's product, so its certainty is that of the surest single port.
    surest = max((_probability(_saying(one, {DeviceClass.OTHER})) for one in by_port), default=0.0)
    if surest >= CLAIM:
        found.append(_device(DeviceClass.OTHER, surest, _saying(supports, {DeviceClass.OTHER})))
    return tuple(found) or (_device(DeviceClass.UNKNOWN, 0.0, supports),)
