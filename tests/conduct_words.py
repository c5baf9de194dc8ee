"""The words that the design allows (its sections 2 and 7), written from it and from the RFCs, and who says them.

What is said is cut into words by its protocol; a piece that is none of the words below has the name None. Nothing
here knows how the product makes its words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from conduct import ICMP, ICMP6, TCP, UDP, Connection, Packet, connections

HANDSHAKE, CIPHERED = 22, 23  # kinds of TLS records (RFC 8446, section 5.1)
_RECORDS = (20, 21, HANDSHAKE, CIPHERED)
_CLIENT_HELLO, _SERVER_NAME = 1, 0  # RFC 8446, section 4; RFC 6066, section 3


class Said(NamedTuple):
    """One word: its name, to whom and which port (``tcp/25``), and its bytes."""

    word: str | None
    host: str
    port: str
    data: bytes


# --- streams --------------------------------------------------------------------------------------

_FIELD = rb"[A-Z][A-Za-z-]*: [^\r\n]*\r\n"
_STREAM: Mapping[str, re.Pattern[bytes]] = MappingProxyType(
    {
        name: re.compile(pattern)
        for name, pattern in {
            "SMTP EHLO": rb"EHLO exposure-scan\.invalid\r\n",  # RFC 5321, section 4.1.1.1
            "SMTP STARTTLS": rb"STARTTLS\r\n",  # RFC 3207
            "SMTP, POP3 QUIT": rb"QUIT\r\n",
            "IMAP CAPABILITY": rb"x1 CAPABILITY\r\n",  # RFC 3501, section 6.1.1
            "IMAP STARTTLS": rb"x2 STARTTLS\r\n",  # section 6.2.1
            "IMAP LOGOUT": rb"x3 LOGOUT\r\n",  # section 6.1.3
            "POP3 CAPA": rb"CAPA\r\n",  # RFC 2449
            "POP3 STLS": rb"STLS\r\n",  # RFC 2595
            "HTTP GET /": rb"GET / HTTP/1\.1\r\n(?:(?:Host|User-Agent|Accept|Connection|From): [^\r\n]*\r\n){4,5}\r\n",
            "SIP OPTIONS": rb"OPTIONS sip:[^\r\n @]+ SIP/2\.0\r\n(?:" + _FIELD + rb"){10}\r\n",  # RFC 3261, 11.1
        }.items()
    }
)


def stream_words(said: bytes) -> Iterator[tuple[str | None, bytes]]:
    """The words of one side of a stream; from the first TLS record on its records."""
    while said:
        if said[0] in _RECORDS and said[1:2] == b"\x03":
            yield from _records(said)
            return
        end = b"\r\n\r\n" if said.startswith((b"GET", b"OPTIONS")) else b"\n"
        at = said.find(end)
        piece, said = (said, b"") if at < 0 else (said[: at + len(end)], said[at + len(end) :])
        yield next((name for name, word in _STREAM.items() if word.fullmatch(piece)), None), piece


def _records(said: bytes) -> Iterator[tuple[str | None, bytes]]:
    while said:
        size = 5 + int.from_bytes(said[3:5])
        piece, said = said[:size], said[size:]
        whole = len(piece) == size and piece[0] in _RECORDS and piece[1] == 3
        yield ("TLS record" if whole and not _names_a_server(piece) else None), piece


def _names_a_server(record: bytes) -> bool:
    """Whether a ClientHello has extension 0: we ask addresses, and tell nobody a name."""
    if record[0] != HANDSHAKE or record[5] != _CLIENT_HELLO:
        return False
    at = 43 + 1 + record[43]  # record, handshake, version and random; then the session id
    at += 2 + int.from_bytes(record[at : at + 2])  # cipher suites
    at += 1 + record[at] + 2  # compression methods, and how long the extensions are
    while at + 4 <= len(record):
        if int.from_bytes(record[at : at + 2]) == _SERVER_NAME:
            return True
        at += 4 + int.from_bytes(record[at + 2 : at + 4])
    return False


# --- datagrams ------------------------------------------------------------------------------------

_NAME = rb"exposure-scan/[0-9.]+ \(authorized security check; [^()\r\n]+\)"
_SUITE = rb"[\x00\x03]\x00\x00[\x20\x24].\x01\x00\x00(?:\x80...){6,7}"  # a transform: RFC 2408, section 3.6
_SNMP = (
    rb"\x30.\x02\x01\x03\x30.\x02[\x01-\x05].{1,5}\x02\x03\x00\xff\xe3\x04\x01\x04\x02\x01\x03"
    rb"\x04\x10\x30\x0e\x04\x00\x02\x01\x00\x02\x01\x00\x04\x00\x04\x00\x04\x00"
    rb"\x30.\x04\x00\x04\x00\xa0.\x02[\x01-\x05].{1,5}\x02\x01\x00\x02\x01\x00\x30\x00"
)
_L2TP = (
    rb"\xc8\x02\x00.\x00{8}\x80\x08\x00\x00\x00\x00\x00\x01\x80\x08\x00\x00\x00\x02\x01\x00"
    rb"\x80\x0a\x00\x00\x00\x03\x00\x00\x00\x03\x80\x13\x00\x00\x00\x07exposure-scan\x80\x08\x00\x00\x00\x09.."
)
_IKE = (
    rb"(?P<cookie>.{8})\x00{8}\x01\x10\x02\x00\x00{4}\x00\x00.."  # main mode's first message, no responder yet
    rb"\x0d\x00..\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00..\x01\x01\x00\x08(?:" + _SUITE + rb"){8}"  # offers, no key
    rb"\x00\x00\x00." + _NAME  # a vendor ID
)
_DATAGRAMS: Mapping[str, tuple[str, re.Pattern[bytes]]] = MappingProxyType(
    {
        port: (name, re.compile(pattern, re.DOTALL))
        for ports, name, pattern in (
            ("udp/5060 udp/5061", "SIP OPTIONS", _STREAM["SIP OPTIONS"].pattern),
            (
                "udp/53",  # RFC 1035: one question for an A record of a name that cannot exist
                "DNS query",
                rb"..\x01\x00\x00\x01\x00{6}\x10[0-9a-f]{16}\x0dexposure-scan\x07invalid\x00\x00\x01\x00\x01",
            ),
            ("udp/69", "TFTP read request", rb"\x00\x01exposure-scan-[0-9a-f]{16}\x00octet\x00"),  # RFC 1350
            ("udp/123", "NTP request", rb"\x23\x00{39}.{8}"),  # RFC 5905: mode 3, which asks and sets nothing
            # RFC 3414, section 4: version 3, no engine, no user, no community, nothing to get
            ("udp/161", "SNMPv3 discovery", _SNMP),
            ("udp/500", "IKE opening", _IKE),
            ("udp/4500", "IKE opening", rb"\x00{4}" + _IKE),  # RFC 3948
            # RFC 2661: SCCRQ, protocol version, framing, host name, tunnel id
            ("udp/1701", "L2TP opening", _L2TP),
            ("udp/2088", "empty datagram", rb""),
            (" ".join(f"udp/{port}" for port in range(33434, 33458)), "path probe", _NAME),
        )
        for port in ports.split()
    }
)
_ECHO = re.compile(rb"[\x08\x80]\x00....\x00\x01exposure-scan .{16}", re.DOTALL)  # RFC 792, RFC 4443


def words(packets: Iterable[Packet], *, empty: bool = False) -> list[Said]:
    """All that the scanner said in these packets. With `empty` an empty datagram may go to any port, as Nmap's do."""
    packets = list(packets)
    found = [
        Said(word, one.host, f"tcp/{one.port}", piece)
        for one in connections(packets)
        for word, piece in stream_words(one.words)
    ]
    for one in packets:
        if not one.ours or one.protocol == TCP:
            continue
        if one.protocol in (ICMP, ICMP6):
            port, word = "icmp", "ICMP echo" if _ECHO.fullmatch(one.data) else None
        elif one.protocol == UDP:
            port = f"udp/{one.ports[1]}"
            word = "empty datagram" if empty and not one.data else _datagram_word(port, one.data)
        else:
            port, word = f"ip/{one.protocol}", None
        found.append(Said(word, one.destination, port, one.data))
    return found


def _datagram_word(port: str, data: bytes) -> str | None:
    name, pattern = _DATAGRAMS.get(port, (None, None))
    return name if pattern is not None and pattern.fullmatch(data) else None


def in_tls(one: Connection) -> bool:
    """Whether we said a TLS record on this connection."""
    return any(word == "TLS record" for word, _ in stream_words(one.words))


def in_the_clear(one: Connection) -> bytes:
    """What we said before TLS."""
    return b"".join(piece for word, piece in stream_words(one.words) if word != "TLS record")


# --- what is never said ---------------------------------------------------------------------------

# Words of a login, a call, a change, a guess or another page, as their protocols write them; in any case of letters.
NEVER = re.compile(
    rb"(?:REGISTER|INVITE|SUBSCRIBE|NOTIFY|PUBLISH|REFER|MESSAGE|CANCEL|BYE|PRACK|UPDATE) sips?:"
    rb"|\b(?:AUTH|AUTHENTICATE|LOGIN|USER|PASS|APOP|ACCT|EXAMINE|SELECT|RETR|LIST|STAT|DELE|STOR|ID|APPEND|HELP)[ \r]"
    rb"|\b(?:MAIL FROM|RCPT TO|VRFY|EXPN|ETRN|TURN|DATA\r|BDAT|SEND FROM|SOML|SAML)"
    rb"|\b(?:Proxy-)?Authorization:|\bCookie:|\bReferer:"
    rb"|\b(?:HEAD|POST|PUT|PATCH|DELETE|TRACE|CONNECT|PROPFIND) [/*a-z]|\bGET (?!/ HTTP/1)"
    rb"|\x30.\x02\x01[\x00\x01]\x04"  # SNMP of version 1 or 2c, whatever its community
    rb"|\b(?:public|private|anonymous|password|passwd)\b|version\.bind|r7tftp",
    re.IGNORECASE | re.DOTALL,
)

# --- who we are -----------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where a word says who asks, and where it says whom to talk to; None where its protocol has no place for it."""

    name: bytes | None
    contact: bytes | None
    why: str = ""  # there is no place


_AGENT = rb"\r\nUser-Agent: exposure-scan/[0-9.]+ \(authorized security check; partner@practice\.invalid\)\r\n"
_TEXT = _NAME.replace(rb"[^()\r\n]+", rb"partner@practice\.invalid")
_NO_TEXT = "its request is numbers"
_NO_NAME = "a command without a place for a text; the greeting that answers it names the server alone"

PLACES: Mapping[str, Place] = MappingProxyType(
    {
        "SIP OPTIONS": Place(_AGENT, rb"\r\nContact: <sip:exposure-scan@[^\r\n>]+>\r\n"),
        "HTTP GET /": Place(_AGENT, rb"\r\nFrom: partner@practice\.invalid\r\n"),
        "SMTP EHLO": Place(rb"EHLO exposure-scan\.invalid", None, "EHLO has a host's name and no more"),
        "IKE opening": Place(_TEXT, _TEXT),
        "path probe": Place(_TEXT, _TEXT),
        "ICMP echo": Place(rb"exposure-scan ", None, "the rest of its text ties the reply to the question"),
        "DNS query": Place(rb"\x0dexposure-scan\x07invalid", None, "a query is a name"),
        "TFTP read request": Place(rb"exposure-scan-", None, "a request is a file's name"),
        "L2TP opening": Place(rb"\x00\x07exposure-scan", None, "it has a host's name; no attribute is a person"),
        "NTP request": Place(None, None, _NO_TEXT),
        "SNMPv3 discovery": Place(None, None, "only a user or a community could be a text, and neither is given"),
        "empty datagram": Place(None, None, "no public message is known for this port"),
        "TLS record": Place(None, None, "a client names itself by a certificate alone, and we have none"),
        "SMTP STARTTLS": Place(None, None, _NO_NAME),
        "SMTP, POP3 QUIT": Place(None, None, _NO_NAME),
        "IMAP CAPABILITY": Place(None, None, "ID (RFC 2971) is no word of the design"),
        "IMAP STARTTLS": Place(None, None, _NO_NAME),
        "IMAP LOGOUT": Place(None, None, _NO_NAME),
        "POP3 CAPA": Place(None, None, _NO_NAME),
        "POP3 STLS": Place(None, None, _NO_NAME),
    }
)
