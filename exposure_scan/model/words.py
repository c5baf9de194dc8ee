"""The words that everything else is said in: states, statuses, classes, and the user's mistake."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Problem(Exception):  # noqa: N818 - it is the user's, not the program's
    """Wrong use: one clear sentence a mistake, each with what to do. The command line exits with 2."""

    def __init__(self, *sentences: str) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


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


class Frozen(BaseModel):
    """Base of every JSON type: immutable, and unknown keys are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
