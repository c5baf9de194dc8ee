"""The frozen types that cross every border between rooms, and their JSON form.

Everything a later stage, a saved scan or a report knows about a site stands in these types. This
module imports nothing of ours, so any room may import it. `Scan` is the JSON document
``exposure-scan/scan/1``; its JSON Schema is generated from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = "exposure-scan/scan/1"

Address: TypeAlias = IPv4Address | IPv6Address


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


class Authorization(Frozen):
    """Who consented to the scan. Without a live one no packet leaves."""

    by: str
    until: datetime | None = None  # aware; None means until further notice
    reference: str | None = None
    role: str | None = None
    on: date | None = None


class Presence(Frozen):
    """A person's word that the live site really is at this address (silence cannot say so)."""

    by: str
    on: datetime  # aware
    how: str | None = None
    until: datetime | None = None  # aware; None means 24 hours from `on`

    @property
    def ends(self) -> datetime:
        """When the word is too old to count."""
        return self.until or self.on + timedelta(hours=24)


class Declaration(Frozen):
    """The operator's word for a practice that nobody can see from outside."""

    by: str
    on: date


class Waiver(Frozen):
    """A finding that somebody accepted, until a day."""

    practice: str
    until: date
    because: str
    by: str


class Vantage(Frozen):
    """From where the scan looked, and what the check of that network found (`vantage check`).

    A port in `blind` cannot be reached from there at all, one in `forged` is answered there by
    somebody else than the host that was asked; both as ``tcp/25``.
    """

    name: str
    checked: bool = False
    outside: bool = True  # False for --internal scans: no outside view
    on: datetime | None = None  # when it was checked; aware
    blind: tuple[str, ...] = ()
    forged: tuple[str, ...] = ()


class Site(Frozen):
    """What the operator says about a site; the part of the sites file that scan and report need."""

    name: str
    targets: tuple[str, ...]
    device: DeviceClass | None = None
    model: str | None = None
    software: str | None = None
    expect: tuple[str, ...] = ()  # services meant to be open: "udp/5060"
    voicemail: dict[str, int] = Field(default_factory=dict)  # moved voicemail: {"smtp": 2525, "imap": 1143}
    present: Presence | None = None
    declares: dict[str, Declaration] = Field(default_factory=dict)  # practice id -> who and when
    waivers: tuple[Waiver, ...] = ()
    require_declarations: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """One address that may be asked. Only `scope` makes one, and only after every check passed."""

    address: Address
    names: tuple[str, ...]  # the names that led here, if any
    authorization: Authorization
    packets_per_second: float = 100.0
    burst: int = 20

    def __str__(self) -> str:
        return str(self.address)


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to ask a target: which port, in which protocol's words."""

    transport: Literal["tcp", "udp", "icmp"]
    port: int  # 0 for icmp
    probe: str  # name of a conversation in `protocols`
    why: str = ""
    ttl: int | None = None  # hops that its packets live for; None is the system's default

    def __str__(self) -> str:
        return f"{self.transport}/{self.port}" if self.port else self.transport


class Tls(Frozen):
    """A TLS session and the certificate that the peer showed. It is read, never trusted."""

    version: str
    cipher: str | None = None
    subject: str = ""
    issuer: str = ""
    names: tuple[str, ...] = ()
    not_before: datetime | None = None
    not_after: datetime | None = None
    self_signed: bool | None = None
    sha256: str | None = None  # of the leaf certificate's DER form, hex


class Support(Frozen):
    """One fingerprint that matched: what it says, how surely, and on what."""

    fingerprint: str
    says: DeviceClass
    confidence: float = Field(ge=0, le=1)
    field: str
    value: str
    heuristic: bool = False
    evidence: tuple[str, ...] = ()


class Device(Frozen):
    """What answers, how surely, and by which evidence."""

    class_: DeviceClass = Field(alias="class", serialization_alias="class")
    confidence: float = Field(ge=0, le=1)
    declared: bool = False
    model: str | None = None
    version: str | None = None
    evidence: tuple[str, ...] = ()
    support: tuple[Support, ...] = ()

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)


class Port(Frozen):
    """One asked port: its state with the reason, and what it said."""

    transport: Literal["tcp", "udp"]
    port: int
    state: PortState
    reason: str  # syn-ack, rst, icmp-port-unreachable, icmp-admin-prohibited, no-response, udp-reply, ...
    confidence: float | None = Field(default=None, ge=0, le=1)  # that an answer was not merely lost; None: unmeasured
    by: str | None = None  # the address that said so: the host itself, or a router on the way
    tries: int = 0
    rtt_ms: float | None = None
    service: str | None = None  # recognised by what it says, never by its number
    tls: Tls | None = None
    banner: str | None = None
    product: str | None = None
    device: Device | None = None
    said: dict[str, str] = Field(default_factory=dict)  # fingerprint field -> text, as received
    notes: tuple[str, ...] = ()  # what the conversation noticed beside its result
    evidence: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """``udp/5060``, the form that the command line and the sites file use."""
        return f"{self.transport}/{self.port}"


class Alive(Frozen):
    """Whether a packet came back that only this host can have sent, and which."""

    proven: bool
    by: str
    evidence: tuple[str, ...] = ()


class RouterError(Frozen):
    """ICMP errors of one kind that a router on the way sent about our packets."""

    by: str
    type: int
    code: int
    reason: str  # as a port's: icmp-host-unreachable, ...
    times: int


class Hop(Frozen):
    """A router on the way, found by packets that live for `ttl` hops only."""

    ttl: int
    address: str
    reason: str  # icmp-time-exceeded, or what it said of the host: icmp-host-unreachable, ...
    evidence: tuple[str, ...] = ()


class Dark(Frozen):
    """A port that answered at first and was silent when it was asked again at the end."""

    port: str  # "tcp/25", or "icmp" for ping
    answered: datetime
    silent: datetime
    evidence: tuple[str, ...] = ()


class Path(Frozen):
    """What the way to the host did to the packets."""

    loss: float | None = None  # share of tries that came to nothing, both ways together
    samples: int = 0  # tries that `loss` was measured on
    middlebox: str | None = None
    blurred: tuple[str, ...] = ()  # ports whose open handshake the middlebox may have made
    errors: tuple[RouterError, ...] = ()
    last_hop: Hop | None = None  # of a silent host
    dark: Dark | None = None


class Host(Frozen):
    """One address and everything seen there."""

    address: str
    names: tuple[str, ...] = ()
    alive: Alive
    echo: Echo
    echo_evidence: tuple[str, ...] = ()
    device: Device
    also: tuple[Device, ...] = ()
    ports: tuple[Port, ...] = ()
    path: Path = Path()


Purpose: TypeAlias = Literal["ask", "again", "loss", "still-there", "path"]
"""Why a question was asked: first, again because tries were too few, to measure loss, at the end, or for the way."""


class Step(Frozen):
    """One event of a conversation. Its bytes are the next `size` of the evidence's sent or received."""

    ms: float  # since the evidence's `at`
    what: Literal[
        "connected",
        "not-connected",
        "sent",
        "received",
        "silent",
        "closed",
        "reset",
        "limit",
        "secured",
        "not-secured",
        "icmp",
        "elsewhere",
    ]
    size: int = 0
    detail: str = ""


class Evidence(Frozen):
    """One conversation as it happened; the same findings come out of it offline.

    `sent` and `received` hold every byte, printable ASCII as it is and the rest escaped
    (`conversation.escape`); inside TLS they are the plain text.
    """

    id: str
    kind: Literal["tcp", "udp", "icmp"]
    at: datetime
    address: str
    port: int
    probe: str
    purpose: Purpose = "ask"
    token: str  # seeds the unique words (branch, Call-ID, nonce) so that the conversation can be repeated
    state: str  # what it showed: a port's state, or ping's
    reason: str
    by: str | None = None
    tries: int = 0
    rtt_ms: float | None = None
    ttl: int | None = None  # of the SYN-ACK, where the rights allow a capture
    window: int | None = None
    sent: str
    received: str
    steps: tuple[Step, ...]


class Finding(Frozen):
    """How one practice stands on one host, why, and how to mend it."""

    practice: str
    host: str
    status: Status
    severity: Severity
    title: str
    because: str
    remedy: str
    confidence: float | None = Field(default=None, ge=0, le=1)  # None where it rests on nobody's measurement
    evidence: tuple[str, ...] = ()
    waived: Waiver | None = None


class Scanner(Frozen):
    """Which program looked."""

    name: str = "exposure-scan"
    version: str


class Declarations(Frozen):
    """How many of the practices that only the operator knows were declared."""

    made: int
    of: int


class Scan(Frozen):
    """The whole result of one site: the JSON document ``exposure-scan/scan/1``."""

    schema_: Literal["exposure-scan/scan/1"] = Field(
        default="exposure-scan/scan/1", alias="schema", serialization_alias="schema"
    )
    scanner: Scanner
    id: str
    started: datetime
    finished: datetime
    site: Site
    authorization: Authorization
    partner: dict[str, str] = Field(default_factory=dict)  # name, contact, phone, mail
    vantage: Vantage
    verdict: Verdict
    because: tuple[str, ...]
    hosts: tuple[Host, ...]
    findings: tuple[Finding, ...]
    declarations: Declarations
    evidence: tuple[Evidence, ...]
    capture: Literal["wire", "none"] = "none"
    lag_ms: float = 0.0  # how late the scanner itself was at worst

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    def to_json(self) -> str:
        """The document, indented, keys in the order of the design, ending in a newline."""
        return self.model_dump_json(indent=2, by_alias=True) + "\n"
