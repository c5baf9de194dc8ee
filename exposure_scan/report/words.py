"""The report's fixed words: each state as a symbol and a word, so that colour alone never says it.

Plain data for the view, the templates and the terminal; the sentences are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from types import MappingProxyType

from exposure_scan.model import DeviceClass, Port, PortState, Severity, Status, Verdict


@dataclass(frozen=True, slots=True)
class Mark:
    """How a state is shown: `icon` names a drawing of the template, `symbol` is for the terminal."""

    icon: str
    symbol: str
    word: str
    tone: str  # good, bad, unsure, told or quiet
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class PracticeText:
    """What the report tells of a practice beside the finding; the sweep makes it from the practice file."""

    id: str
    title: str
    why: str
    part: str
    menu_path: str
    known: str


VERDICTS: Mapping[Verdict, Mark] = MappingProxyType(
    {
        Verdict.GO: Mark("check", "✓", "GO", "good"),
        Verdict.NO_GO: Mark("cross", "✗", "NO-GO", "bad"),
        Verdict.INCONCLUSIVE: Mark("help", "?", "INCONCLUSIVE", "unsure"),
    }
)

SURE = 0.999  # from here on a finding is told without its confidence: the tries are laid out for it

# In the order in which a reader needs them.
STATUSES: Mapping[Status, Mark] = MappingProxyType(
    {
        Status.NOT_MET: Mark("cross", "✗", "Not met", "bad", "The scan saw that the practice is broken."),
        Status.CANNOT_TELL: Mark(
            "help", "?", "Cannot tell", "unsure", "The scan could not settle it. That is no all-clear."
        ),
        Status.UNDECLARED: Mark(
            "circle",
            "○",
            "Undeclared",
            "unsure",
            "Nobody can see it from outside, and nobody has vouched for it.",
        ),
        Status.DECLARED: Mark(
            "pen", "✎", "Declared", "told", "A named person vouched for it. The scan did not see it."
        ),
        Status.MET: Mark("check", "✓", "Met", "good", "The scan saw nothing against it at that moment."),
        Status.NOT_APPLICABLE: Mark(
            "dash",
            "-",
            "Not applicable",
            "quiet",
            "The practice is for another kind of device.",
        ),
    }
)

SEVERITIES: Mapping[Severity, str] = MappingProxyType(
    {
        Severity.CRITICAL: "critical",
        Severity.HIGH: "high",
        Severity.MEDIUM: "medium",
        Severity.LOW: "low",
    }
)

KNOWN: Mapping[str, str] = MappingProxyType(
    {
        "observed": "The scan decides",
        "partly": "The scan can show a breach, never that all is well",
        "declared": "Only the operator knows",
    }
)

DEVICES: Mapping[DeviceClass, str] = MappingProxyType(
    {
        DeviceClass.SERVER: "Allworx server",
        DeviceClass.HANDSET: "Allworx handset",
        DeviceClass.PX: "Allworx Px expander",
        DeviceClass.ALLWORX: "Allworx equipment of unknown kind",
        DeviceClass.OTHER: "Another product, not Allworx",
        DeviceClass.UNKNOWN: "Unknown device",
    }
)

# Doors in the order in which a reader needs them.
OPEN = Mark("door-open", "✗", "Open", "bad", "answers anyone")
EXPECTED = Mark("door-open", "!", "Open, as expected", "told", "answers anyone; the operator wants it open")
UNCLEAR = Mark("door-silent", "?", "Open, or only seems so", "unsure", "something on the way may be what accepts")
UNMEASURED = Mark("door-silent", "?", "Not measured", "unsure", "nothing is known of it")
BLOCKED = Mark("door-shut", "✓", "Blocked", "quiet", "a device on the way said no")
SHUT = Mark("door-shut", "✓", "Shut", "quiet", "the address refused")
SILENT = Mark("door-silent", "·", "Silent", "quiet", "no answer came; shut, filtered or lost")
DOORS = (OPEN, EXPECTED, UNCLEAR, UNMEASURED, BLOCKED, SHUT, SILENT)

# What routers and hosts say about packets (RFC 792, 1812, 4443), by a port's reason.
ICMP: Mapping[str, str] = MappingProxyType(
    {
        "icmp-port-unreachable": "port unreachable",
        "icmp-admin-prohibited": "forbidden",
        "icmp-host-prohibited": "host forbidden",
        "icmp-net-prohibited": "network forbidden",
        "icmp-host-unreachable": "host unreachable",
        "icmp-host-unknown": "host unknown",
        "icmp-host-isolated": "host isolated",
        "icmp-net-unreachable": "network unreachable",
        "icmp-net-unknown": "network unknown",
        "icmp-proto-unreachable": "protocol unreachable",
        "icmp-beyond-scope": "beyond the scope of the sender's address",
        "icmp-source-route-failed": "source route failed",
        "icmp-fragmentation-needed": "packet too big",
        "icmp-packet-too-big": "packet too big",
        "icmp-parameter-problem": "packet not understood",
        "icmp-time-exceeded": "packet went too far",
    }
)
REASONS: Mapping[str, str] = MappingProxyType(
    {
        "syn-ack": "accepted the connection",
        "rst": "refused",
        "no-response": "no answer",
        "udp-reply": "replied",
        "too-few-tries": "no answer, after too few tries for this line",
        "no-permission": "this machine may not ask it",
        "vantage-blind": "the scanner's network does not let the question out",
        "vantage-forged": "in the scanner's network somebody else answers for it",
        **{reason: f"ICMP: {said}" for reason, said in ICMP.items()},
    }
)


def door(port: Port, *, expected: bool, blurred: bool) -> Mark:
    """How a port looks to a passer-by. A handshake that a middlebox may have made is no open door."""
    if port.state is PortState.OPEN:
        if blurred:
            return UNCLEAR
        return EXPECTED if expected else OPEN
    if port.state is PortState.UNMEASURED:
        return UNMEASURED
    if port.state is PortState.CLOSED:
        return SHUT
    return BLOCKED if port.reason.startswith("icmp-") else SILENT


def confidence(value: float) -> str:
    """A confidence (0 to 1) in words with its percentage."""
    for least, word in ((0.95, "nearly certain"), (0.75, "very likely"), (0.5, "likely")):
        if value >= least:
            return f"{word} ({value:.0%})"
    return f"weak hint ({value:.0%})"


def chance(sureness: float) -> str:
    """How often something of this confidence (0 to 1) is missed, to one digit: ``about 1 time in 30``."""
    if sureness >= SURE:
        return "less than 1 time in 1,000"
    if sureness < 0.33:
        return "more often than not"
    times = 1 / (1 - sureness)
    digits = 0 if times < 10 else -1 if times < 100 else -2
    return f"about 1 time in {round(times, digits):,.0f}"


def count(number: int, one: str, many: str) -> str:
    """``1 port``, ``3 ports``."""
    return f"{number} {one if number == 1 else many}"


def utc(when: datetime) -> datetime:
    """The same moment in UTC; one without a zone is taken to be UTC."""
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def moment(when: datetime) -> str:
    """``3 November 2026, 14:05 UTC``."""
    when = utc(when)
    return f"{date_text(when.date())}, {when:%H:%M} UTC"


def day(when: datetime) -> str:
    """``3 November 2026``, in UTC."""
    return date_text(utc(when).date())


_MONTHS = (
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)


def date_text(when: date) -> str:
    """``3 November 2026``, whatever the locale."""
    return f"{when.day} {_MONTHS[when.month - 1]} {when.year}"  # not strftime: it follows the locale
