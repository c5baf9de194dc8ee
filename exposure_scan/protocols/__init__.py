"""Every conversation that a scan may have: bytes in, values out. No sockets, no clocks, no chance.

One file a protocol. `greeting`, `http`, `sip` and `tls` talk on streams, joined by `stream`, which finds
out what a TCP port speaks; the others ask in datagrams through `datagram`, which holds the asking.
Only harmless words are said (docs, design section 2); tests hold the list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from exposure_scan.conversation import Caller, Conversation

from . import datagram, stream
from .dns import dns
from .icmp import echo
from .ike import ike
from .l2tp import l2tp
from .ntp import ntp
from .sip import PATIENT_WAITS, sip_udp
from .snmp import snmp
from .tftp import tftp
from .vantage import vantage

__all__ = ["FIELDS", "PROBES", "conversation"]

_Start = Callable[[str, Caller], Conversation]

_DATAGRAMS: Mapping[str, _Start] = MappingProxyType(
    {
        "sip-udp": sip_udp,
        "sip-udp-patient": lambda token, caller: sip_udp(token, caller, PATIENT_WAITS),
        "dns": lambda token, _: dns(token),
        "tftp": lambda token, _: tftp(token),
        "ntp": lambda token, _: ntp(token),
        "snmp": lambda token, _: snmp(token),
        "ike": ike,
        "ike-nat-t": lambda token, caller: ike(token, caller, nat_t=True),
        "l2tp": lambda token, _: l2tp(token),
        "empty": lambda _, __: datagram.empty(),
        "hop": lambda _, caller: datagram.hop(caller),
        "echo": lambda token, _: echo(token, 4),
        "echo6": lambda token, _: echo(token, 6),
        "silent": lambda _, __: stream.silent(),
        "vantage-tcp": lambda token, caller: vantage("tcp", token, caller),
        "vantage-udp": lambda token, caller: vantage("udp", token, caller),
    }
)

PROBES: frozenset[str] = stream.PROBES | frozenset(_DATAGRAMS)

FIELDS: frozenset[str] = frozenset(
    {
        "smtp.greeting",
        "smtp.ehlo",
        "imap.greeting",
        "imap.capability",
        "pop3.greeting",
        "pop3.capa",
        "ftp.greeting",
        "ssh.greeting",
        "http.status",
        "http.server",
        "http.title",
        "http.www-authenticate",
        "http.location",
        "http.accept-ranges",
        "sip.status",
        "sip.server",
        "sip.user-agent",
        "sip.allow",
        "sip.contact",
        "sip.via",
        "sip.private",  # private addresses that it lets out, each with its place: "10.0.0.5 (Contact)"
        "sip.www-authenticate",
        "tls.subject",
        "tls.issuer",
        "dns.rcode",
        "dns.ra",
        "snmp.engine-id",
        "snmp.enterprise",
    }
)


def conversation(probe: str, token: str, caller: Caller) -> Conversation:
    """Start a conversation. The same `token` (hex text) gives the same bytes.

    Raises:
        KeyError: there is no such probe.
    """
    if probe in _DATAGRAMS:
        return _DATAGRAMS[probe](token, caller)
    return stream.port(probe, token, caller)
