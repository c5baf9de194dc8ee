"""What the practice devices answer: plain functions, bytes in and bytes out, without sockets or clocks.

Beyond the greetings and pages that `devices` marks as verified, every word here is synthetic: it
follows the RFCs, since no source shows what a real device says. Nothing is ever accepted: no login,
no mail, no call, no registration.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

_ALLOW = b"Allow: OPTIONS, INVITE, ACK, BYE, CANCEL, REGISTER"
_COMPACT = {b"v": b"via", b"f": b"from", b"t": b"to", b"i": b"call-id", b"l": b"content-length"}
_RPORT = re.compile(rb";\s*rport\s*(?=;|$)", re.IGNORECASE)
_TAG = re.compile(rb";\s*tag\s*=", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What to say to one line, and how the conversation goes on."""

    data: bytes
    then: Literal["listen", "tls", "bye"] = "listen"


def smtp(line: bytes, host: str) -> Answer:
    """Answer one SMTP command (RFC 5321). No mail is taken and no TLS offered.

    Args:
        line: the command without its line end.
        host: the name that the device gives itself.
    """
    verb = line.split(b" ", 1)[0].upper()
    if verb == b"EHLO":
        return Answer(f"250-{host}\r\n250 8BITMIME\r\n".encode())
    if verb == b"HELO":
        return Answer(f"250 {host}\r\n".encode())
    if verb in (b"NOOP", b"RSET"):
        return Answer(b"250 OK\r\n")
    if verb == b"QUIT":
        return Answer(f"221 {host} closing\r\n".encode(), "bye")
    return Answer(b"502 Command not implemented\r\n")


def imap(line: bytes, *, starttls: bool, secured: bool) -> Answer:
    """Answer one IMAP command (RFC 3501, sections 6.1 and 6.2.1).

    Args:
        line: the command without its line end.
        starttls: the device offers TLS.
        secured: TLS already stands.
    """
    tag, _, rest = line.partition(b" ")
    verb = rest.split(b" ", 1)[0].upper()
    if not tag or not verb:
        return Answer(b"* BAD expected a tag and a command\r\n")
    if verb == b"CAPABILITY":
        words = b" STARTTLS LOGINDISABLED" if starttls and not secured else b""
        return Answer(b"* CAPABILITY IMAP4rev1" + words + b"\r\n" + tag + b" OK CAPABILITY completed\r\n")
    if verb == b"NOOP":
        return Answer(tag + b" OK NOOP completed\r\n")
    if verb == b"LOGOUT":
        return Answer(b"* BYE closing\r\n" + tag + b" OK LOGOUT completed\r\n", "bye")
    if verb == b"STARTTLS" and starttls and not secured:
        return Answer(tag + b" OK begin TLS\r\n", "tls")
    if verb in (b"LOGIN", b"AUTHENTICATE"):
        return Answer(tag + b" NO nobody can log in here\r\n")
    return Answer(tag + b" BAD unknown command\r\n")


def pop3(line: bytes) -> Answer:
    """Answer one POP3 command (RFC 1939 and RFC 2449), given without its line end."""
    verb = line.split(b" ", 1)[0].upper()
    if verb == b"CAPA":
        return Answer(b"+OK capabilities follow\r\nUSER\r\nUIDL\r\n.\r\n")
    if verb == b"QUIT":
        return Answer(b"+OK closing\r\n", "bye")
    return Answer(b"-ERR not here\r\n")


def http(request: bytes, page: bytes, date: str) -> bytes:
    """Answer one HTTP request with the device's page, whatever its path; to other methods with 501.

    Args:
        request: everything up to the empty line.
        page: the whole answer, with @DATE@ where the time goes.
        date: the time in the form of RFC 9110, section 5.6.7.
    """
    line = re.match(rb"([A-Z]+) \S+(?: HTTP/\d\.\d)?\r?\n", request)
    if line is None:
        return b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    answer = page.replace(b"@DATE@", date.encode())
    if line[1] == b"GET":
        return answer
    if line[1] == b"HEAD":
        return answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    return b"HTTP/1.0 501 Not Implemented\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def sip(message: bytes, *, peer: tuple[str, int], own: tuple[str, int], transport: str) -> bytes:
    """Answer one SIP request: 200 to OPTIONS, 405 to the rest, nothing to an ACK or to what is no request.

    Stateless, as RFC 3261 section 8.2.7 allows: the To tag comes from the Call-ID. The topmost Via
    gets `received` and `rport` as RFC 3581 section 4 says. No Server header: none is known.

    Args:
        message: the request with its empty line.
        peer: address and port that it came from.
        own: address and port that it came to.
        transport: udp, tcp or tls.
    """
    head = message.partition(b"\r\n\r\n")[0].split(b"\r\n")
    start = re.fullmatch(rb"([A-Z]+) sips?:\S+ SIP/2\.0", head[0])
    fields: dict[bytes, list[bytes]] = {}
    for line in head[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            name = name.strip().lower()
            fields.setdefault(_COMPACT.get(name, name), []).append(value.strip())
    if (
        start is None
        or start[1] == b"ACK"
        or any(not fields.get(name) for name in (b"via", b"from", b"to", b"call-id", b"cseq"))
    ):
        return b""
    to = fields[b"to"][0]
    if not _TAG.search(to):
        to += b";tag=" + hashlib.sha256(fields[b"call-id"][0]).hexdigest()[:10].encode()
    status = b"SIP/2.0 200 OK" if start[1] == b"OPTIONS" else b"SIP/2.0 405 Method Not Allowed"
    host = f"[{own[0]}]" if ":" in own[0] else own[0]
    vias = [_via_seen(fields[b"via"][0], peer), *fields[b"via"][1:]]
    lines = [
        status,
        *(b"Via: " + via for via in vias),
        b"From: " + fields[b"from"][0],
        b"To: " + to,
        b"Call-ID: " + fields[b"call-id"][0],
        b"CSeq: " + fields[b"cseq"][0],
        f"Contact: <sip:{host}:{own[1]};transport={transport}>".encode(),
        _ALLOW,
        b"Content-Length: 0",
    ]
    return b"\r\n".join([*lines, b"", b""])


def sip_length(message: bytes) -> int:
    """Bytes of the body that a stream's SIP message announces after its empty line (0 if none)."""
    found = re.search(rb"\r\n(?:content-length|l)[ \t]*:[ \t]*(\d{1,6})[ \t]*\r\n", message, re.IGNORECASE)
    return int(found[1]) if found else 0


def _via_seen(via: bytes, peer: tuple[str, int]) -> bytes:
    first, comma, more = via.partition(b",")
    received = b";received=" + peer[0].encode()
    if _RPORT.search(first):
        first = _RPORT.sub(b";rport=" + str(peer[1]).encode(), first, count=1) + received
    elif peer[0].encode() not in first.partition(b";")[0]:
        first += received
    return first + comma + more
