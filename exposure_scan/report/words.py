"""The report's fixed words: each state as a symbol and a word, so that colour alone never says it.

Plain data for the view, the templates and the terminal; the sentences are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType

from exposure_scan.model import DeviceClass, PortState, Severity, Status, Turn, Verdict


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

_MOST_OFFSET = 26 * 60  # minutes; no place on Earth is further from UTC
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

# In the order in which a reader needs them.
TURNS: Mapping[Turn, Mark] = MappingProxyType(
    {
        Turn.NEW: Mark("cross", "✗", "New", "bad", "It is broken now and was not before."),
        Turn.BACK: Mark("cross", "✗", "Back again", "bad", "It was mended, and is broken once more."),
        Turn.UNSEEN: Mark("help", "?", "No longer seen", "unsure", "It was broken; this scan did not settle it."),
        Turn.FIXED: Mark("check", "✓", "Fixed", "good", "It was broken and is so no more."),
        Turn.STILL: Mark("cross", "✗", "Still broken", "bad", "It was broken before and still is."),
        Turn.OTHER: Mark("dash", "-", "Other", "quiet", "It stands otherwise than before; it was and is no breach."),
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
        "went-dark": "not asked: it had gone silent",
        "not-in-the-capture": "nobody asks it in the capture",
        "not-in-the-file": "the file does not tell",
        "echo-reply": "it answered",
        **{reason: f"ICMP: {said}" for reason, said in ICMP.items()},
    }
)


# Why OpenSSL gives up a handshake with a peer that does speak TLS.
TLS_REFUSALS: Mapping[str, str] = MappingProxyType(
    {
        "UNSUPPORTED_PROTOCOL": "It speaks an old version of TLS or SSL that OpenSSL on the scanner refuses",
        "TLSV1_ALERT_PROTOCOL_VERSION": "It and OpenSSL on the scanner share no version of TLS",
        "SSLV3_ALERT_HANDSHAKE_FAILURE": "It speaks TLS and agreed to no way of encrypting that OpenSSL knows",
        "DH_KEY_TOO_SMALL": "Its TLS uses a key that is too small for OpenSSL on the scanner",
        "NO_PROTOCOLS_AVAILABLE": "OpenSSL on the scanner refuses its version of TLS",
    }
)

# What was asked, by the probe's name; a TCP probe only says how the talk began.
PROBES: Mapping[str, str] = MappingProxyType(
    {
        "any": "listened, then asked in several ways",
        "dns": "DNS: a question for the root",
        "echo": "ICMP echo (ping)",
        "echo6": "ICMPv6 echo (ping)",
        "empty": "an empty UDP packet",
        "overheard": "somebody else asked, and it was captured",
        "greeting": "listened for a mail or other greeting",
        "hop": "a packet that lives for a few hops only",
        "http": "web: GET /",
        "ike": "VPN: the opening message of IKE",
        "ike-nat-t": "VPN: the opening message of IKE over NAT",
        "knock": "a connection, without a word",
        "l2tp": "VPN: the opening message of L2TP",
        "moved": "listened for a mail greeting, then asked in several ways",
        "ntp": "time: an NTP request",
        "silent": "a connection, without a word",
        "sip": "SIP OPTIONS over TCP",
        "sip-udp": "SIP OPTIONS over UDP",
        "snmp": "SNMPv3 discovery, without a community",
        "tftp": "TFTP: a request that no server fulfils",
        "tls-greeting": "TLS, then a mail greeting",
        "tls-http": "TLS, then GET /",
        "tls-sip": "TLS, then SIP OPTIONS",
    }
)
PURPOSES: Mapping[str, str] = MappingProxyType(
    {
        "again": " (asked again: the tries were too few)",
        "loss": " (to measure the loss)",
        "still-there": " (to see whether it was still there)",
        "path": " (to find the last router)",
        "sweep": " (in the sweep of all ports)",
        "unheard": " (what came could not be trusted, so it was asked anew)",
    }
)
PROOF_STATES: Mapping[str, str] = MappingProxyType({"silent": "no answer", "open|filtered": "open or filtered"})


def door(state: PortState, reason: str, *, expected: bool, blurred: bool) -> Mark:
    """How a port looks to a passer-by. A handshake that a middlebox may have made is no open door."""
    if state is PortState.OPEN:
        if blurred:
            return UNCLEAR
        return EXPECTED if expected else OPEN
    if state is PortState.UNMEASURED:
        return UNMEASURED
    if state is PortState.CLOSED:
        return SHUT
    return BLOCKED if reason.startswith("icmp-") else SILENT


_OVER = 0.995  # what rounds to 100% would say more than anybody knows


def confidence(value: float) -> str:
    """A confidence (0 to 1) in words with its percentage."""
    for least, word in ((0.95, "nearly certain"), (0.75, "very likely"), (0.5, "likely")):
        if value >= least:
            return f"{word} ({value:.0%})" if value < _OVER else f"{word} (over 99%)"
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
    return f"{number:,} {one if number == 1 else many}"


def packs(names: Sequence[str], more: int = 0) -> str:
    """``pack px-6-2``, ``packs a, b and 2 more``."""
    rest = f" and {more} more" if more > 0 else ""
    return f"{'pack' if len(names) == 1 and not rest else 'packs'} {', '.join(names)}{rest}"


def utc(when: datetime) -> datetime:
    """The same moment in UTC; one without a zone is taken to be UTC."""
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def moment(when: datetime) -> str:
    """``3 November 2026, 14:05 UTC``."""
    when = utc(when)
    return f"{date_text(when.date())}, {when:%H:%M} UTC"


def local(when: datetime, offset: int | None, zone: str | None) -> str:
    """``15:05 CET`` for a time at a place that is `offset` minutes ahead of UTC; with the day where it is another."""
    if offset is None or abs(offset) > _MOST_OFFSET:
        return ""
    there = utc(when) + timedelta(minutes=offset)
    name = zone or f"UTC{'+' if offset >= 0 else '-'}{abs(offset) // 60:02}:{abs(offset) % 60:02}"
    day_there = "" if there.date() == utc(when).date() else f"{date_text(there.date())}, "
    return f"{day_there}{there:%H:%M} {name}"


def instant(when: datetime) -> str:
    """``2026-11-03 14:05:00.120 UTC``, for the eye of a technician."""
    return f"{utc(when):%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"


def day(when: datetime) -> str:
    """``3 November 2026``, in UTC."""
    return date_text(utc(when).date())


_MONTHS = (
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)


def date_text(when: date) -> str:
    """``3 November 2026``, whatever the locale."""
    return f"{when.day} {_MONTHS[when.month - 1]} {when.year}"  # not strftime: it follows the locale
