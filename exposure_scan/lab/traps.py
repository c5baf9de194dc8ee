"""What hostile hosts say on their TCP ports, one act for each: streams without end, resets, bombs, false words.

Every word here is synthetic, and said by nobody but the lab (see `hostile`).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from types import MappingProxyType
from typing import TypeAlias, cast

from . import answers, hostile_certificates

ELSEWHERE = "198.18.69.9"  # where redirects lead, and nobody must follow
INJECTED = b"INJECTED-BEFORE-TLS"  # said in plain text after the consent to TLS
_DRIP_SECONDS = 0.2
_LONG = 1024 * 1024  # bytes of one line
_FIELDS = 10_000
_TICKETS = 2_000  # to resume a TLS session with, some 240 bytes each, before a word is said in it
_UNZIPPED = 64 * 1024 * 1024  # bytes of zeros in the bomb
_HEAD = 8192  # bytes of a request that are read
_STAYS = 60.0  # seconds that a silent trap keeps a connection


@dataclass(slots=True)
class Talk:
    """One connection to a trap."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        """Send, and wait until the peer's system takes it."""
        self.writer.write(data)
        await self.writer.drain()

    async def line(self) -> bytes:
        """The peer's next line."""
        data = await self.reader.readuntil(b"\n")
        return data.strip()

    async def head(self) -> bytes:
        """Everything up to the empty line."""
        return (await self.reader.readuntil(b"\r\n\r\n"))[:_HEAD]

    async def stay(self) -> None:
        """Say nothing more, and hold the connection."""
        await asyncio.sleep(_STAYS)

    def reset(self) -> None:
        """Tear the connection down with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Act: TypeAlias = Callable[[Talk], Awaitable[None]]


# --- what a trap does on one port ------------------------------------------------------------------


async def _endless(talk: Talk, first: bytes, more: bytes, *, asked: bool = False) -> None:
    """`first`, and then `more` for ever; only after a request if `asked`."""
    if asked:
        await talk.head()
    await talk.say(first)
    while True:
        await talk.say(more)


async def _drip(talk: Talk, words: bytes) -> None:
    """One byte at a time, from the beginning again when the words are over."""
    while True:
        for at in range(len(words)):
            await talk.say(words[at : at + 1])
            await asyncio.sleep(_DRIP_SECONDS)


async def _never_read(talk: Talk) -> None:
    with suppress(RuntimeError):  # it may have been paused already
        cast(asyncio.ReadTransport, talk.writer.transport).pause_reading()
    await talk.stay()


async def _reset(talk: Talk, words: bytes = b"", *, asked: bool = False) -> None:
    """Say these words, after the first that the peer says if `asked`, and tear the connection down."""
    if asked:
        await talk.reader.read(1)
    if words:
        await talk.say(words)
        await asyncio.sleep(_DRIP_SECONDS)  # a reset overtakes words that still wait
    talk.reset()


async def _say(talk: Talk, words: bytes) -> None:
    """All of it at once, and then the end."""
    await talk.say(words)


async def _answer(talk: Talk, words: bytes) -> None:
    """The same to whatever is asked."""
    await talk.head()
    await talk.say(words)


async def _mail(talk: Talk, then: Act, *, injected: bytes = b"") -> None:
    """An SMTP server that agrees to STARTTLS, and `then` does as it likes."""
    await talk.say(b"220 hostile.invalid ESMTP (synthetic)\r\n")
    while not (line := await talk.line()).upper().startswith(b"STARTTLS"):
        if line.upper().startswith(b"QUIT"):
            await talk.say(b"221 bye\r\n")
            return
        await talk.say(b"250-hostile.invalid\r\n250 STARTTLS\r\n")
    await talk.say(b"220 go ahead\r\n" + injected)
    await then(talk)


async def _letters(talk: Talk, then: Act, *, injected: bytes = b"") -> None:
    """An IMAP server that agrees to STARTTLS."""
    await talk.say(b"* OK IMAP4rev1 (synthetic)\r\n")
    while True:
        tag, _, verb = (await talk.line()).partition(b" ")
        if verb.upper() == b"STARTTLS":
            break
        if verb.upper() == b"LOGOUT":
            await talk.say(b"* BYE\r\n" + tag + b" OK bye\r\n")
            return
        await talk.say(b"* CAPABILITY IMAP4rev1 STARTTLS\r\n" + tag + b" OK done\r\n")
    await talk.say(tag + b" OK go ahead\r\n" + injected)
    await then(talk)


async def _post(talk: Talk, then: Act, *, injected: bytes = b"") -> None:
    """A POP3 server that agrees to STLS."""
    await talk.say(b"+OK POP3 (synthetic)\r\n")
    while (verb := (await talk.line()).upper()) != b"STLS":
        if verb == b"QUIT":
            await talk.say(b"+OK bye\r\n")
            return
        await talk.say(b"+OK capabilities\r\nSTLS\r\n.\r\n")
    await talk.say(b"+OK go ahead\r\n" + injected)
    await then(talk)


async def _tls_and_lines(talk: Talk) -> None:
    """TLS after all, and whatever is said inside it is agreed to."""
    await talk.writer.start_tls(_context("plain"))
    while await talk.line():
        await talk.say(b"221 bye\r\n")


async def _page_over_tls(talk: Talk, certificate: str, page: bytes) -> None:
    await talk.writer.start_tls(_context(certificate))
    await _answer(talk, page)


async def _phone(talk: Talk, change: Callable[[bytes], bytes]) -> None:
    """SIP over TCP, each answer changed."""
    while True:
        message = await talk.head()
        own, peer = (talk.writer.get_extra_info(name)[:2] for name in ("sockname", "peername"))
        await talk.say(change(answers.sip(message, peer=peer, own=own, transport="tcp")))


@cache
def _context(certificate: str) -> ssl.SSLContext:
    if certificate == "tickets":
        made = hostile_certificates.context("plain")
        made.num_tickets = _TICKETS
        return made
    return hostile_certificates.context(certificate)


# --- their words -----------------------------------------------------------------------------------

_OK = b"HTTP/1.1 200 OK\r\nServer: hostile (synthetic)\r\n"
_PAGE = _OK + b"Content-Type: text/html\r\n\r\n<html><title>Hostile page (synthetic)</title></html>\n"
_TLS_BEGUN = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03"  # a ServerHello of 16 KB, as it begins
_ODD = bytes(range(0x80, 0x100)) + b"\xc0\xaf\xed\xa0\x80\xf8\x88\x80\x80\x80"  # no UTF-8 in whatever order
_ZEROS = b"\0" * 4096


def _moved(place: bytes) -> bytes:
    there = f"{place.decode()}://{ELSEWHERE}/".encode()
    body = b'<html><meta http-equiv="refresh" content="0; url=' + there + b'"><title>Moved</title></html>\n'
    return (
        b"HTTP/1.1 301 Moved Permanently\r\nLocation: " + there + b"\r\nRefresh: 0; url=" + there + b"\r\n\r\n" + body
    )


@cache
def _bomb(window: int) -> bytes:
    """Zeros, packed a thousandfold: gzip with a window of 31, zlib with 15."""
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    piece = bytes(1024 * 1024)
    body = b"".join(packer.compress(piece) for _ in range(_UNZIPPED // len(piece))) + packer.flush()
    name = b"gzip" if window > 15 else b"deflate"
    length = str(len(body)).encode()
    return _OK + b"Content-Encoding: " + name + b"\r\nContent-Length: " + length + b"\r\n\r\n" + body


async def _explode(talk: Talk, window: int) -> None:
    await _answer(talk, _bomb(window))


def _many(start: bytes) -> bytes:
    fields = b"".join(b"X-Field-%d: synthetic\r\n" % number for number in range(_FIELDS))
    return start + fields + b"\r\n"


def _with_field(answer: bytes, field: bytes) -> bytes:
    """A SIP answer with one more field, the first."""
    start, _, rest = answer.partition(b"\r\n")
    return start + b"\r\n" + field + b"\r\n" + rest


def _strange(answer: bytes) -> bytes:
    """An answer to somebody else's request: branch and Call-ID are not those that were asked."""
    return answer.replace(b"branch=z9hG4bK", b"branch=z9hG4bKanother").replace(b"Call-ID: ", b"Call-ID: another")


def _announces(answer: bytes) -> bytes:
    """A body of 10 MB is announced, and a megabyte of it comes."""
    return answer.replace(b"Content-Length: 0", b"Content-Length: 10000000") + bytes(_LONG)


# --- the traps -------------------------------------------------------------------------------------

_ACTS: dict[str, dict[int, Act | None]] = {  # None: the handshake is the kernel's, and nobody ever accepts
    "endless": {port: partial(_endless, first=b"", more=b"A" * 16384) for port in (25, 143, 443, 8080)},
    "endless-lines": {
        25: partial(_endless, first=b"", more=b"220-synthetic words that do not end\r\n" * 100),
        110: partial(_endless, first=b"+OK synthetic\r\n", more=b"SYNTHETIC\r\n" * 300),
        5060: partial(_endless, first=b"SIP/2.0 200 OK\r\n", more=b"X-Field: synthetic\r\n" * 200, asked=True),
        8080: partial(_endless, first=_OK, more=b"X-Field: synthetic\r\n" * 200, asked=True),
    },
    "endless-chunks": {
        port: partial(
            _endless,
            first=_OK + b"Transfer-Encoding: chunked\r\n\r\n",
            more=b"1000\r\n" + b"A" * 4096 + b"\r\n",
            asked=True,
        )
        for port in (80, 8080)
    },
    "continue-flood": {
        port: partial(_endless, first=b"", more=b"HTTP/1.1 100 Continue\r\n\r\n" * 200, asked=True)
        for port in (80, 8080)
    },
    "drip": {
        25: partial(_drip, words=b"220 hostile.invalid ESMTP (synthetic)"),  # its line never ends
        443: partial(_drip, words=_TLS_BEGUN + b"\0" * 64),
        5060: partial(_drip, words=b"SIP/2.0 200 OK\r\nX-Field: synthetic\r\n"),
        8080: partial(_drip, words=_OK),
    },
    "half-open": {25: None, 443: None, 8080: None},
    "never-read": dict.fromkeys((25, 443, 8080), _never_read),
    "reset-at-once": dict.fromkeys((25, 443, 8080), _reset),
    "reset-after-greeting": {
        25: partial(_reset, words=b"220 hostile.invalid ESMTP (synthetic)\r\n"),
        110: partial(_reset, words=b"+OK POP3 (synthetic)\r\n"),
        143: partial(_reset, words=b"* OK IMAP4rev1 (synthetic)\r\n"),
    },
    "reset-in-line": {
        25: partial(_reset, words=b"220 hostile.inva"),
        5060: partial(_reset, words=b"SIP/2.0 20", asked=True),
        8080: partial(_reset, words=b"HTTP/1.1 20", asked=True),
    },
    "reset-inside-tls": dict.fromkeys((443, 5061), partial(_reset, words=_TLS_BEGUN, asked=True)),
    "reset-after-starttls": {
        25: partial(_mail, then=_reset),
        110: partial(_post, then=_reset),
        143: partial(_letters, then=_reset),
    },
    "starttls-stuck": {25: partial(_mail, then=Talk.stay), 143: partial(_letters, then=Talk.stay)},
    "starttls-drips": {
        25: partial(_mail, then=partial(_drip, words=_TLS_BEGUN + bytes(64))),
        110: partial(_post, then=partial(_endless, first=_TLS_BEGUN, more=_ZEROS)),
    },
    "starttls-injected": {
        25: partial(_mail, then=_tls_and_lines, injected=b"250-" + INJECTED + b"\r\n250 AUTH PLAIN\r\n"),
        110: partial(_post, then=_tls_and_lines, injected=b"+OK " + INJECTED + b"\r\nUSER\r\n.\r\n"),
        143: partial(_letters, then=_tls_and_lines, injected=b"* CAPABILITY " + INJECTED + b"\r\nx3 OK done\r\n"),
    },
    "long-line": {
        25: partial(_say, words=b"220 " + b"A" * _LONG + b" ESMTP\r\n"),
        5060: partial(_phone, change=partial(_with_field, field=b"Server: " + b"A" * _LONG)),
        8080: partial(_answer, words=_OK + b"X-Field: " + b"A" * _LONG + b"\r\n\r\n"),
    },
    "many-fields": {
        5060: partial(_phone, change=partial(_with_field, field=_many(b"").strip())),
        8080: partial(_answer, words=_many(_OK)),
    },
    "no-utf8": {
        25: partial(_say, words=b"220 " + _ODD + b" ESMTP\r\n"),
        143: partial(_say, words=b"* OK " + _ODD + b"\r\n"),
        5060: partial(_phone, change=partial(_with_field, field=b"Server: " + _ODD)),
        8080: partial(_answer, words=_OK + b"Location: " + _ODD + b"\r\n\r\n<title>" + _ODD + b"</title>"),
    },
    "nuls": {
        25: partial(_say, words=b"220 hostile\0.invalid\0 ESMTP\0\r\n"),
        110: partial(_endless, first=b"", more=_ZEROS),
        5060: partial(_phone, change=partial(_with_field, field=b"Server: hostile\0(synthetic)")),
        8080: partial(_answer, words=_OK + b"X-\0: \0\r\n\r\n<title>\0hostile\0</title>"),
    },
    "bomb": {80: partial(_explode, window=31), 8080: partial(_explode, window=15)},
    "redirect": {
        80: partial(_answer, words=_moved(b"http")),
        443: partial(_page_over_tls, certificate="plain", page=_moved(b"https")),
        8080: partial(_answer, words=_moved(b"http")),
    },
    "tickets": {443: partial(_page_over_tls, certificate="tickets", page=_PAGE)},
    "calm": {},  # nothing: what others are held against
    "sip-of-others": {5060: partial(_phone, change=_strange)},
    "sip-huge-body": {5060: partial(_phone, change=_announces)},
    **{
        f"certificate-{kind}": {443: partial(_page_over_tls, certificate=kind, page=_PAGE)}
        for kind in hostile_certificates.KINDS
    },
}  # fmt: skip
TRAPS: Mapping[str, Mapping[int, Act | None]] = MappingProxyType({n: MappingProxyType(a) for n, a in _ACTS.items()})
