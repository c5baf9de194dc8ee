"""From Nmap's words to ours: the record that an imported scan keeps of a port, and what is made of it.

The record is text, one thing a line, ``name key="value" ...``, with the attributes as Nmap's XML has them. What a
port is comes out of the record alone, so that an imported scan is derived again offline as any other.
Reason codes: Nmap's portreasons.cc, and its reference, "Port Scanning Basics".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal
from xml.sax.saxutils import escape, unescape

from exposure_scan.conversation import Observation
from exposure_scan.model import Echo, PortState

from .values import NmapPort

NOT_TOLD = "not-in-the-file"
"""The reason of what the file tells nothing of."""

ECHO_REPLY = "echo-reply"
_MOST_LINES = 64
_LONGEST = 1000  # characters of one text
_TO_TEXT: Mapping[str, str] = MappingProxyType({'"': "&quot;", "\r": "&#13;", "\n": "&#10;", "\t": "&#9;"})
_FROM_TEXT: Mapping[str, str] = MappingProxyType({text: char for char, text in _TO_TEXT.items()})
_LINE = re.compile(r'([a-z]+)((?: [a-z_]+="[^"\n]*")*)')
_PAIR = re.compile(r' ([a-z_]+)="([^"\n]*)"')

# Nmap's reasons in our words. A host says the first group itself; in the second, reason_ip may name a router.
_OWN: Mapping[str, str] = MappingProxyType(
    {
        "syn-ack": "syn-ack",
        "conn-accept": "syn-ack",
        "tcp-response": "syn-ack",  # version detection was answered on the connection
        "reset": "rst",
        "conn-refused": "rst",
        "udp-response": "udp-reply",
        "script-set": "udp-reply",  # a script had an answer
    }
)
_ICMP: Mapping[str, str] = MappingProxyType(
    {
        "port-unreach": "icmp-port-unreachable",
        "host-unreach": "icmp-host-unreachable",
        "net-unreach": "icmp-net-unreachable",
        "proto-unreach": "icmp-proto-unreachable",
        "dest-unreach": "icmp-host-unreachable",
        "net-prohibited": "icmp-net-prohibited",
        "host-prohibited": "icmp-host-prohibited",
        "admin-prohibited": "icmp-admin-prohibited",
        "beyond-scope": "icmp-beyond-scope",
        "reject-route": "icmp-net-prohibited",
        "time-exceeded": "icmp-time-exceeded",
        "param-problem": "icmp-parameter-problem",
        "source-quench": "icmp-type-4-code-0",
    }
)
_SILENT = "no-response"
# An open port is one that answered: other scans (window, idle, maimon) only conclude it from something else.
_OPEN: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "tcp": frozenset({"syn-ack", "conn-accept", "tcp-response", "split-handshake-syn"}),
        "udp": frozenset({"udp-response", "script-set"}),
    }
)
# Nmap's names of services that it recognised, where ours differ; only such as we know are taken.
_SERVICES: Mapping[str, str] = MappingProxyType(
    {
        **{
            name: name
            for name in ("sip", "smtp", "imap", "pop3", "ftp", "ssh", "telnet", "http", "ntp", "snmp", "tftp")
        },
        "sip-proxy": "sip",
        "https": "http",
        "domain": "dns",
        "isakmp": "ike",
        "L2TP": "l2tp",
        "vnc": "rfb",
    }
)
_GREET = frozenset({"smtp", "imap", "pop3", "ftp", "ssh"})
# nmap-service-probes knows this one by an error that is no SIP message; SIP is only what a SIP reply shows.
_NO_SIP = frozenset({"Kamailio sipd"})
_WRAPPED = (
    "Nmap had its connection accepted and closed before a word was said: something on the way, or an access list "
    "(tcpwrapped)."
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a record shows: a port's state or ping's, with the reason, who said so, and the words.

    `tls` says that Nmap spoke through TLS; `certificate` is the leaf in DER form, where the record has it.
    """

    state: PortState | Echo
    reason: str
    by: str | None
    observation: Observation = field(default_factory=Observation)
    tls: bool = False
    certificate: bytes = b""


def record(found: NmapPort) -> str:
    """The record of a port: its attributes, what Nmap recognised, and the output of its scripts."""
    lines = [
        _line("state", state=found.state, reason=found.reason, reason_ip=found.by, reason_ttl=str(found.ttl or ""))
    ]
    if (service := found.service) is not None:
        lines.append(
            _line(
                "service",
                name=service.name,
                method=service.method,
                conf=str(service.conf),
                product=service.product,
                version=service.version,
                extrainfo=service.extrainfo,
                tunnel=service.tunnel,
                servicefp=service.servicefp,
            )
        )
    lines += [_line("script", id=name, output=output) for name, output in found.scripts]
    lines += [_line("title", text=found.title)] * bool(found.title)
    lines += [_line("certificate", pem=found.certificate)] * bool(found.certificate)
    return "\n".join(lines)


def host_record(status: str, reason: str) -> str:
    """The record of ping: how Nmap knew of the host."""
    return _line("host", state=status, reason=reason)


def _line(name: str, /, **values: str) -> str:
    told = (f'{key}="{escape(_plain(value), dict(_TO_TEXT))}"' for key, value in values.items() if value)
    return " ".join((name, *told))


def _plain(text: str) -> str:
    """The text without lone surrogates, which no encoding can keep."""
    return text.encode("utf-8", "replace").decode()


def read_record(text: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The lines of a record: name and values.

    Raises:
        ValueError: it is none.
    """
    lines = text.split("\n")
    if len(lines) > _MOST_LINES:
        raise ValueError("a record of Nmap's with more lines than any has")
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{line[:60]!a} is no line of a record of Nmap's")
        yield match[1], {key: unescape(value, dict(_FROM_TEXT)) for key, value in _PAIR.findall(match[2])}


def seen(kind: Literal["tcp", "udp", "icmp"], address: str, text: str) -> Seen:
    """What a record shows of a port of `address`, or of ping.

    Raises:
        ValueError: it is no record.
    """
    rows = list(read_record(text))
    if kind == "icmp":
        if rows[0][0] != "host":
            raise ValueError("a record of ping that does not tell of the host")
        if rows[0][1].get("reason") == ECHO_REPLY:
            return Seen(Echo.REPLIED, ECHO_REPLY, address, Observation(answered=True, valid=True))
        return Seen(Echo.UNMEASURED, NOT_TOLD, None)
    name, values = rows[0]
    if name != "state":
        raise ValueError("a record of a port that does not tell its state")
    state, reason, by = _state(kind, address, values)
    observation, tls, certificate = Observation(), False, b""
    notes = _notes(values)
    if state is PortState.OPEN:
        observation, tls, certificate = _words(kind, rows[1:], notes)
    elif notes:
        observation = Observation(notes=notes)
    return Seen(state, reason, by, observation, tls, certificate)


def _state(kind: str, address: str, values: Mapping[str, str]) -> tuple[PortState, str, str | None]:
    said, reason = values.get("state", ""), values.get("reason", "")
    spoke: str | None = None
    if reason in _OWN or reason in _OPEN["tcp"]:
        spoke = address
    elif reason in _ICMP:
        spoke = values.get("reason_ip") or address
    ours = _OWN.get(reason) or _ICMP.get(reason) or reason or _SILENT
    if said == "open" and reason in _OPEN[kind]:
        return PortState.OPEN, ours, address
    if said == "closed" and (spoke == address):
        return PortState.CLOSED, ours, address
    if said in ("filtered", "closed") and spoke is not None and reason in _ICMP:
        return PortState.FILTERED, ours, spoke
    if said in ("filtered", "closed|filtered") and reason == _SILENT:
        return PortState.FILTERED, _SILENT, None
    if said == "open|filtered" and reason == _SILENT:
        return PortState.OPEN_FILTERED, _SILENT, None
    # `unfiltered`, what was concluded and not seen, and what this machine's system forbade.
    return PortState.UNMEASURED, f"nmap-{_word(said)}-{_word(reason)}", None


def _word(text: str) -> str:
    return re.sub(r"[^a-z]+", "-", text.lower())[:30].strip("-") or "unknown"


def _notes(values: Mapping[str, str]) -> tuple[str, ...]:
    if values.get("state") == "unfiltered":
        return ("Nmap only saw that packets get through to this port, not whether a service is there (unfiltered).",)
    if values.get("state") == "closed|filtered":
        return ("Nmap could not tell closed from filtered here; the weaker word is kept.",)
    return ()


# --- words ----------------------------------------------------------------------------------------


def _words(
    kind: str, rows: list[tuple[str, Mapping[str, str]]], notes: tuple[str, ...]
) -> tuple[Observation, bool, bytes]:
    """What an open port said, as far as Nmap wrote it down."""
    service = next((values for name, values in rows if name == "service"), {})
    scripts = {values.get("id", ""): values.get("output", "") for name, values in rows if name == "script"}
    title = next((values.get("text", "") for name, values in rows if name == "title"), "")
    pem = next((values.get("pem", "") for name, values in rows if name == "certificate"), "")
    probed = service.get("method") == "probed"
    name = service.get("name", "")
    wrapped = probed and name == "tcpwrapped"
    recognised = _SERVICES.get(name) if probed else None  # by "table", Nmap only looked the number up
    if name == "sip" and service.get("product") in _NO_SIP and not service.get("version"):
        recognised = None
    greeting = _greeting(service.get("servicefp", ""), scripts.get("banner", "")) if not wrapped else ""
    said: dict[str, str] = {}
    if recognised in _GREET and greeting:
        said[f"{recognised}.greeting"] = greeting[:_LONGEST]
    if recognised == "http":
        server = scripts.get("http-server-header", "").split("\n")[0]
        said |= {"http.server": server[:_LONGEST]} if server else {}
        said |= {"http.title": title[:_LONGEST]} if title else {}
    if recognised == "sip":
        greeting, said = _sip(_raw_reply(service.get("servicefp", ""), "SIPOptions"))
    called = _called(service) if probed and not wrapped else ""
    answered = kind == "udp" or bool(probed and not wrapped) or bool(greeting or pem)
    observation = Observation(
        recognised,
        (greeting or (f"Nmap calls it: {called}" if called else ""))[:_LONGEST] or None,
        said,
        answered=answered,
        valid=recognised is not None,
        notes=(*notes, *((_WRAPPED,) if wrapped else ())),
    )
    return observation, service.get("tunnel") == "ssl" or bool(pem), _der(pem)


def _sip(reply: bytes) -> tuple[str, dict[str, str]]:
    """The first line of a SIP reply with the product's name, and the fields that name it."""
    first, *rest = re.split(r"\r?\n", reply.decode("utf-8", "replace"))
    if not first.startswith("SIP/2.0 "):
        return "", {}
    said: dict[str, str] = {}
    for line in rest:
        name, colon, value = line.partition(":")
        if colon and (key := name.strip().lower()) in ("server", "user-agent") and value.strip():
            said.setdefault(f"sip.{key}", value.strip()[:_LONGEST])
    labels = (("sip.server", "Server"), ("sip.user-agent", "User-Agent"))
    named = next((f", {label}: {said[key]}" for key, label in labels if key in said), "")
    return first + named, said


def _called(service: Mapping[str, str]) -> str:
    """Product, version and what else Nmap makes of it; words for people, no fingerprint."""
    words = " ".join(filter(None, (service.get("product", ""), service.get("version", ""))))
    extra = service.get("extrainfo", "")
    return f"{words} ({extra})" if words and extra else words or extra or service.get("name", "")


def _greeting(servicefp: str, banner: str) -> str:
    """The first line that was said unasked: of the raw reply to no probe at all, else of the script `banner`."""
    raw = _raw_reply(servicefp, "NULL")
    if raw:
        return _first(raw.decode("utf-8", "replace"))
    whole = "".join(banner.split("\n"))  # the script breaks lines for a terminal
    if whole.endswith("..."):
        return ""  # it was cut, and half a greeting tells nothing for certain
    plain = re.sub(r"\\x([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), whole)
    return _first(plain)


def _first(text: str) -> str:
    return next((line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()), "")


_REPLIES = re.compile(r'%r\(([A-Za-z0-9_-]{1,40}),([0-9A-F]{1,5}),"((?:[^"\\]|\\.)*)"\)', re.DOTALL)
_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.)", re.DOTALL)
_NAMED: Mapping[bytes, bytes] = MappingProxyType({b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0"})


def _raw_reply(servicefp: str, probe: str) -> bytes:
    """The raw reply to a probe of Nmap's in its fingerprint; empty where there is none, or it was cut."""
    for match in _REPLIES.finditer(servicefp):
        if match[1] == probe:
            data = _ESCAPE.sub(_plain_byte, match[3].encode("utf-8", "replace"))
            return data if len(data) == int(match[2], 16) else b""
    return b""


def _plain_byte(found: re.Match[bytes]) -> bytes:
    word = found[1]
    return bytes([int(word[1:], 16)]) if len(word) == 3 else _NAMED.get(word, word)


def _der(pem: str) -> bytes:
    body = re.sub(r"-----(?:BEGIN|END) CERTIFICATE-----|\s", "", pem)
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        return b""
