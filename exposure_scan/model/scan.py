"""What a scan saw and made of it, up to the JSON document ``exposure-scan/scan/1``."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import ConfigDict, Field

from .site import Authorization, Site, Vantage, Waiver
from .text import json_text
from .words import DeviceClass, Echo, Frozen, Moment, PortState, Seen, Severity, Status, Verdict

SCHEMA = "exposure-scan/scan/1"


class Tls(Frozen):
    """A TLS session and the certificate that the peer showed. It is read, never trusted."""

    version: str
    cipher: str | None = None
    subject: str = ""
    issuer: str = ""
    names: tuple[str, ...] = ()
    not_before: Moment | None = None
    not_after: Moment | None = None
    self_signed: bool | None = None
    sha256: str | None = None  # of the leaf certificate's DER form, hex


class Support(Frozen):
    """One fingerprint that matched: what it says, how surely, by whose word, and on what."""

    fingerprint: str
    says: DeviceClass
    confidence: float = Field(ge=0, le=1)
    field: str
    value: str
    heuristic: bool = False
    source: str = ""
    pack: str | None = None  # the fingerprint pack it is from; None: it came with the scanner
    port: str | None = None  # "tcp/25"
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
    against: tuple[Support, ...] = ()  # what the same ports said that speaks for something else

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


class Swept(Frozen):
    """TCP ports of a wide sweep that came to the same, told together. What is open is asked on as a `Port`."""

    ports: str  # "1-20,26-52", ascending
    number: int
    state: PortState
    reason: str
    confidence: float | None = Field(default=None, ge=0, le=1)  # of one port, as a port's own
    by: str | None = None
    tries: int = 0  # for each port
    evidence: tuple[str, ...] = ()


class Sweep(Frozen):
    """How a wide sweep went; what came of its other ports stands in `Host.swept`."""

    found: tuple[str, ...] = ()  # what it found open and asked on, "tcp/2525"
    seconds: float | None = None  # from its first knock to its end, as the evidence's times tell


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
    answered: Seen
    silent: Seen
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
    swept: tuple[Swept, ...] = ()
    sweep: Sweep | None = None  # None: only the default plan, or a list, was asked
    path: Path = Path()


Purpose: TypeAlias = Literal["ask", "again", "loss", "still-there", "path", "sweep", "unheard"]
"""Why a question was asked: first, again because tries were too few, to measure loss, whether it is still there,
for the way, or to find what was moved. What was asked over a socket that others had flooded or forged answers to is
unheard: it shows nothing, and was asked anew over a socket of its own."""


class Step(Frozen):
    """One event of a conversation. Its bytes are the next `size` of the evidence's sent or received."""

    ms: float  # since the evidence's `at`
    what: Literal[
        "asking",  # a TCP attempt with the ends in `detail`; two may be under way at once
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
    at: Seen
    address: str
    port: int  # 0 for ping, and for the many of `ports`
    ports: str = ""  # of a wide sweep: the ports that all came to this, "1-20,26-52"
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
    frames: str = ""  # its packets' numbers in the capture, "12-18,40"; of a wide sweep, from its first to its last


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
    """Which program looked, and what time its machine went by."""

    name: str = "exposure-scan"
    version: str
    zone: str | None = None  # the machine's name for its local time, such as CET
    utc_offset: int | None = None  # minutes that its local time is ahead of UTC
    rules: str | None = None  # SHA-256, hex, of its practices and fingerprints


class Pack(Frozen):
    """A fingerprint pack that a scan used: its words are kept, so that the same findings come out anywhere."""

    name: str
    origin: str  # who learnt it, when, from what
    sha256: str  # of `text`, hex
    text: str  # the TOML document


class Origin(Frozen):
    """Whose observations these are, where no packet of ours made them: a capture, or what Nmap wrote."""

    kind: Literal["capture", "nmap"]
    name: str  # of the file
    sha256: str  # of the file, hex
    by: str = ""  # the program that made it, with its version and its words, as far as the file tells


class Opinion(Frozen):
    """One port as we and somebody else saw it."""

    host: str
    port: str  # "tcp/25"
    ours: PortState
    theirs: PortState
    reason: str  # theirs
    agreement: Literal["same", "compatible", "differs", "not-compared"]
    because: str = ""  # where it is not the same: why, and who is right


class SecondOpinion(Frozen):
    """What another scanner found at the same addresses, right after us."""

    by: str  # "Nmap 7.93"
    words: tuple[str, ...] = ()  # the command as it was run
    seconds: float | None = None
    ports: tuple[Opinion, ...] = ()
    trouble: str | None = None  # why there is no opinion, or only a part of one


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
    started: Seen
    finished: Seen
    site: Site
    authorization: Authorization
    partner: dict[str, str] = Field(default_factory=dict)  # name, contact, phone, mail, accent, logo
    vantage: Vantage
    verdict: Verdict
    because: tuple[str, ...]
    hosts: tuple[Host, ...]
    findings: tuple[Finding, ...]
    declarations: Declarations
    packs: tuple[Pack, ...] = ()  # that spoke in this scan
    evidence: tuple[Evidence, ...]
    capture: Literal["wire", "transcript", "none"] = "none"  # seen on the wire, or rebuilt from the record
    origin: Origin | None = None  # None: packets of our own
    second_opinion: SecondOpinion | None = None
    redacted: bool = False  # nonces, host names and serials were masked
    lag_ms: float = 0.0  # how late the scanner itself was at worst

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    def to_json(self) -> str:
        """The document, indented, keys in the order of the design, ending in a newline."""
        return json_text(self.model_dump_json(indent=2, by_alias=True)) + "\n"
