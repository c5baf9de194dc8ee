"""The words that everything else is said in: states, statuses, classes, and the user's mistake."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict

from .text import line_text


class Problem(Exception):  # noqa: N818 - it is the user's, not the program's
    """Wrong use: one clear sentence a mistake, each with what to do. The command line exits with 2.

    Sentences quote what was wrong, and that may be anybody's: each is one clean line.
    """

    def __init__(self, *sentences: str) -> None:
        self.sentences = tuple(map(line_text, sentences))
        super().__init__("\n".join(self.sentences))


class Verdict(StrEnum):
    """What the scan says as a whole (design, section 5)."""

    GO = "go"
    NO_GO = "no-go"
    INCONCLUSIVE = "inconclusive"


class DeviceClass(StrEnum):
    """What kind of device answers."""

    SERVER = "allworx-server"
    HANDSET = "allworx-handset"
    PX = "allworx-px"
    ALLWORX = "allworx"  # the family is certain, the class is not
    OTHER = "other"  # answers, and is something else
    UNKNOWN = "unknown"


class PortState(StrEnum):
    """Nmap's port states, and `unmeasured` for what could not be asked."""

    OPEN = "open"
    CLOSED = "closed"
    FILTERED = "filtered"
    OPEN_FILTERED = "open|filtered"
    UNMEASURED = "unmeasured"


class Echo(StrEnum):
    """Whether the address answers ping (ICMP echo, RFC 792 and RFC 4443)."""

    REPLIED = "replied"
    SILENT = "silent"
    UNMEASURED = "unmeasured"


class Status(StrEnum):
    """How a practice stands on one host."""

    MET = "met"
    NOT_MET = "not-met"
    CANNOT_TELL = "cannot-tell"
    DECLARED = "declared"
    UNDECLARED = "undeclared"
    NOT_APPLICABLE = "not-applicable"


class Severity(StrEnum):
    """How much a broken practice weighs; critical and high decide the verdict."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


def tellable(when: datetime) -> datetime:
    """The moment itself, where it lies within the calendar in UTC, too.

    Raises:
        ValueError: it does not, as the last hours of the year 9999 in the west.
    """
    try:
        if when.tzinfo is not None:
            when.astimezone(UTC)
    except OverflowError:
        raise ValueError("a moment within the years 1 to 9999 is expected") from None
    return when


def _seen(when: datetime) -> datetime:
    if not 1 < when.year < 9999:  # days can be counted from it
        raise ValueError("a moment within the years 2 to 9998 is expected")
    return when


Moment: TypeAlias = Annotated[datetime, AfterValidator(tellable)]
"""A moment of a document, which may come from anybody; one without a zone is taken to be UTC."""

Seen: TypeAlias = Annotated[datetime, AfterValidator(_seen)]
"""A moment at which something happened."""


class Frozen(BaseModel):
    """Base of every JSON type: immutable, and unknown keys are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
