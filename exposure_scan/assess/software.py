"""Which software a server runs, held against what the bulletin covers and what is known of its patches.

The facts stand in ``data/software.toml``. A version that the wire shows counts before one on the operator's
record, and one that only a heuristic shows decides nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter

from exposure_scan.model import Device, DeviceClass, Status

from .look import Answer, Look

Version: TypeAlias = tuple[int, ...]

_VERSION = re.compile(r"\s*v?([0-9]{1,4}(?:\.[0-9]{1,4})+)(?![0-9])")
_LONGEST = 40  # characters of a version in a sentence; more is no version
_FORBID = ConfigDict(extra="forbid")


def read_version(text: str | None) -> Version | None:
    """The numbers of a version such as 7.6.2.3, to be compared one by one; fewer than two do not tell the line."""
    match = _VERSION.match(text or "")
    return tuple(int(number) for number in match[1].split(".")) if match else None


def _read(text: object) -> object:
    return read_version(text) if isinstance(text, str) else text


_Numbers: TypeAlias = Annotated[Version, BeforeValidator(_read)]
_Known: TypeAlias = Literal["verified", "copy", "report", "unknown"]


@dataclass(frozen=True, slots=True)
class Covered:
    """The last line of software that the bulletin covers."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID
    line: _Numbers
    source: Annotated[str, Field(min_length=10)]
    confidence: _Known


@dataclass(frozen=True, slots=True)
class Line:
    """A line of software, and the least patch of it by somebody's word, where there is such a word."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID
    line: _Numbers
    source: Annotated[str, Field(min_length=10)]
    confidence: _Known
    floor: _Numbers | None = None
    latest: bool = False  # the word asks for the most recent patch and names no number
    whose: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the software."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID
    covered: Covered
    line: tuple[Line, ...]


@cache
def facts() -> Facts:
    """The facts of ``data/software.toml``, read once.

    Raises:
        ValueError: the file breaks a rule.
    """
    return read((files("exposure_scan") / "data" / "software.toml").read_text("utf-8"))


def read(text: str) -> Facts:
    """The facts of a document.

    Raises:
        ValueError: it breaks a rule.
    """
    found = TypeAdapter(Facts).validate_python(tomllib.loads(text))
    for row in found.line:
        if (row.floor is not None or row.latest) != bool(row.whose):
            raise ValueError(f"software.toml: {_dotted(row.line)}: a word on patches, and whose it is, belong together")
        if row.floor is not None and row.floor[:2] != row.line:
            raise ValueError(f"software.toml: {_dotted(row.line)}: the floor is of another line")
    return found


@dataclass(frozen=True, slots=True)
class _Seen:
    """A version that the wire shows, with what shows it."""

    text: str
    version: Version
    confidence: float
    heuristic: bool
    evidence: tuple[str, ...]


def software(look: Look) -> Answer:
    """`software.supported`: older than what the bulletin covers last, that line itself, or later."""
    shown = sorted(_seen((look.host.device, *look.host.also)), key=lambda seen: seen.heuristic)
    record = read_version(look.site.software)
    if shown and not shown[0].heuristic:
        seen = shown[0]
        other = ""
        if record is not None and not _agree(seen.version, record):
            other = f". The operator's record says {look.site.software}, but what the wire shows counts"
        said = f"The wire shows software {seen.text}{other}"
        return _judged(seen.version, said, Status.MET, seen.evidence, seen.confidence)
    answer = Answer(Status.UNDECLARED, "No software version shows from outside.")
    if record is not None:
        answer = _judged(record, f"Software {look.site.software} is on the operator's record", Status.DECLARED)
    return _with_hint(answer, shown[0], record) if shown else answer


def _seen(devices: Iterable[Device]) -> Iterable[_Seen]:
    """The versions of the server or the family. Another product's version tells nothing of the server's."""
    for device in devices:
        version = read_version(device.version)
        if version is None or device.version is None or device.declared:
            continue
        if device.class_ not in (DeviceClass.SERVER, DeviceClass.ALLWORX):
            continue
        shown = device.version if len(device.version) <= _LONGEST and device.version.isprintable() else _dotted(version)
        carrying = [support for support in device.support if device.version in support.value]
        if not carrying:
            yield _Seen(shown, version, device.confidence, heuristic=False, evidence=device.evidence)
            continue
        best = min(carrying, key=lambda support: (support.heuristic, -support.confidence))
        yield _Seen(shown, version, best.confidence, best.heuristic, best.evidence or device.evidence)


def _with_hint(answer: Answer, hint: _Seen, record: Version | None) -> Answer:
    """The answer with what only a heuristic shows, which may cast doubt on the record and decides nothing."""
    told = f"A heuristic, which decides nothing, hints at software {hint.text}."
    if record is None:
        return Answer(Status.UNDECLARED, f"{told} No version shows for certain.", hint.evidence)
    doubtful = answer.status is Status.DECLARED and hint.version[:2] <= facts().covered.line
    status = Status.UNDECLARED if doubtful else answer.status
    return Answer(status, f"{answer.because} {told}", (*answer.evidence, *hint.evidence), answer.confidence)


def _judged(
    version: Version, said: str, later: Status, evidence: tuple[str, ...] = (), confidence: float | None = None
) -> Answer:
    line = version[:2]
    last = facts().covered.line
    row = next((row for row in facts().line if row.line == line), None)
    if line < last:
        patch = f" {_patch(version, row)}" if row is not None and row.floor is not None else ""
        because = f"{said}. That is older than {_dotted(last)}.{patch}"
        return Answer(Status.NOT_MET, because, evidence, confidence)
    if line > last:
        unread = row is None or row.confidence == "unknown"
        unknown = f" No document known to this scanner names {_dotted(line)}; check the number." if unread else ""
        return Answer(later, f"{said}. That is later than {_dotted(last)}.{unknown}", evidence, confidence)
    asked = f" {_capital(row.whose)} asks for it." if row is not None and row.latest else ""
    unknown = f"Which patch of {_dotted(last)} was the last is not known to this scanner."
    return Answer(Status.UNDECLARED, f"{said}. {unknown}{asked}", evidence)


def _patch(version: Version, row: Line) -> str:
    """Where a version stands to the floor of its line, and whose word that floor is."""
    if row.floor is None:
        return ""
    least = f"{_dotted(row.floor)}, the least patch of {_dotted(row.line)} by {row.whose}"
    if version == row.floor[: len(version)] and len(version) < len(row.floor):
        return f"Whether it is below {least}, does not show."
    if version < row.floor:
        return f"It is below {least}."
    return f"It is not below {least}. The bulletin covers that line all the same."


def _agree(one: Version, other: Version) -> bool:
    """Whether neither says anything else: 7.6 is less exact than 7.6.2.3, not different."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
