"""The practices of the bulletin, which are data: read once, and held to editorial rules."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter

from exposure_scan.model import Severity, Status

from .checks import CHECKS

BULLETIN = "20130326-0074"
REVISION = date(2014, 5, 23)

_FORBID = ConfigDict(extra="forbid")
_Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=400)]


@dataclass(frozen=True, slots=True)
class Example:
    """A case that is a test: what was observed and said, in short form, and the status that must follow."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID
    given: Mapping[str, object]
    status: Status


@dataclass(frozen=True, slots=True)
class Practice:
    """One practice of the bulletin, in our own words; `menu_path` is empty where the vendor names no menu."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID
    id: Annotated[str, Field(pattern=r"^[a-z]+(\.[a-z]+(-[a-z]+)*)$")]
    title: Annotated[str, Field(min_length=1, max_length=90)]
    why: _Text
    part: _Text
    applies_to: Annotated[tuple[Literal["all", "server", "handset", "px"], ...], Field(min_length=1)]
    known: Literal["observed", "partly", "declared"]
    severity: Severity
    remedy: _Text
    examples: Annotated[tuple[Example, ...], Field(min_length=2)]
    menu_path: str = ""
    check: str | None = None  # the name of a check below; none for what only the operator knows
    source: str | None = None  # of facts that are not the bulletin's


@cache
def practices() -> tuple[Practice, ...]:
    """The practices of the bulletin in its own order, read once.

    Raises:
        ValueError: the data file breaks a rule; the message names the row and the rule.
    """
    name = f"allworx-{BULLETIN}.toml"
    return read(files("exposure_scan").joinpath("data", "practices", name).read_text("utf-8"), name)


def read(text: str, name: str) -> tuple[Practice, ...]:
    """The practices of a file's text; `name` stands in what is said of its mistakes.

    Raises:
        ValueError: the text breaks a rule.
    """
    document = tomllib.loads(text)
    head = document.pop("bulletin", None), document.pop("revised", None)
    if head != (BULLETIN, REVISION) or set(document) != {"practice"}:
        raise ValueError(f"{name}: the head is not that of bulletin {BULLETIN} as revised on {REVISION}")
    found = TypeAdapter(tuple[Practice, ...]).validate_python(document["practice"])
    seen: set[str] = set()
    for practice in found:
        where = f"{name}: {practice.id}"
        if practice.id in seen:
            raise ValueError(f"{where}: the id is used twice")
        seen.add(practice.id)
        if (practice.check is None) != (practice.known == "declared"):
            raise ValueError(f"{where}: a check belongs to what is observed or partly known, and only there")
        if practice.check is not None and practice.check not in CHECKS:
            raise ValueError(f"{where}: there is no check {practice.check!r}")
        if practice.menu_path not in practice.remedy:
            raise ValueError(f"{where}: the remedy does not contain the menu path {practice.menu_path!r}")
    return found
