"""A conversation over TCP, in plain text or inside TLS. Its buffer behaves as `conversation.replay` does."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress

from exposure_scan.conversation import (
    Connected,
    End,
    Heard,
    NotConnected,
    NotSecured,
    Receive,
    Reply,
    StartTls,
    endpoint_text,
)
from exposure_scan.model import PortState

from .connect import PATIENCE, Attempt, first_connect, part
from .icmp import listen_for_errors
from .journal import NO_RESPONSE, Answer, Journal, endpoint, ready
from .tls import Tunnel, reason

_CHUNK = 16384
_EAGER = 8  # reads of one wait before drops of a drip are gathered
_GATHER = 0.01  # seconds
_MOST_ENCIPHERED = 131_072  # bytes of records that bring no word: of a handshake, or beside the words of one wait


class Stream:
    """The TCP side of one conversation. `answer` is the port's state after the first connect."""

    def __init__(self, journal: Journal, port: int) -> None:
        self.answer: Answer | None = None
        self.tries = 0
        self._journal = journal
        self._port = port
        self._sock: socket.socket | None = None
        self._tunnel: Tunnel | None = None
        self._broken: End | None = None

    async def connect(self) -> Reply:
        """Connect, hedged the first time; a later one takes the place of the old connection."""
        if self.answer is None:
            self.answer, self.tries, self._sock = await first_connect(self._journal, self._port)
            return self._stands(self.answer)
        await self.leave()
        self._broken = None
        if self._journal.over:
            return self._stands(Answer(PortState.UNMEASURED, NO_RESPONSE))
        attempt = Attempt(self._journal, self._port)
        answer = await attempt.run(PATIENCE, begun=True)
        self._sock = attempt.socket
        return self._stands(answer)

    def _stands(self, answer: Answer) -> Reply:
        if self._sock is None:
            self._journal.note("not-connected", detail=answer.reason)
            return NotConnected(answer.reason)
        listen_for_errors(self._sock, on=False)  # a stray ICMP error must not end a connection that stands
        try:
            local, peer = endpoint(self._sock.getsockname()), endpoint(self._sock.getpeername())
        except OSError:  # connected, and torn down at once; the socket tells that only once
            self._broken = End.RESET
            local = endpoint(self._sock.getsockname())
            peer = (str(self._journal.target.address), self._port)
        self._journal.note("connected", detail=f"{endpoint_text(local)} {endpoint_text(peer)}")
        return Connected(local, peer)

    async def send(self, data: bytes) -> None:
        """Send; a peer that is gone leaves one `reset` in the record, which replay takes for the same."""
        if self._sock is None or self._journal.over:
            if self._broken is not None:
                self._journal.note("reset")
            return
        await self._journal.pace(len(data))
        try:
            if self._tunnel is None:
                sent = await self._write(self._sock, data)
            else:
                self._tunnel.write(data)
                cipher = self._tunnel.outgoing()
                sent = len(data) if await self._write_enciphered(self._sock, cipher) else 0
        except ssl.SSLError:
            sent = 0
        if sent:
            self._journal.note("sent", data[:sent])
        elif data:
            self._journal.note("reset")

    async def _write(self, sock: socket.socket, data: bytes) -> int:
        """How many bytes the kernel took before the time or the connection ended."""
        done = 0
        while done < len(data):
            try:
                done += sock.send(data[done:])
            except BlockingIOError:
                if not await ready(sock, self._journal.until, write=True):
                    break
            except OSError:
                break
        return done

    async def _write_enciphered(self, sock: socket.socket, data: bytes) -> bool:
        done = await self._write(sock, data)
        self._journal.note_enciphered("sent", data[:done])
        return done == len(data)

    async def receive(self, request: Receive) -> Heard:
        """Read until it is enough, too much, too late, or over."""
        if self._sock is None and self._broken is None:
            return Heard(b"", End.SILENT)  # never connected: nothing to record
        loop = asyncio.get_running_loop()
        until = min(loop.time() + request.seconds, self._journal.until)
        buffer = b""
        reads = 0
        if self._journal.over:
            return self._ended(buffer, End.SILENT)
        while True:
            if len(buffer) >= request.limit:
                return self._ended(buffer, End.LIMIT)
            late = loop.time() >= until
            data, end = await self._read(request.limit - len(buffer), until)
            if end is not None:
                return self._ended(buffer, end)
            self._journal.note("received", data)
            buffer += data
            if request.enough(buffer):
                return Heard(buffer, End.ENOUGH)
            if late:
                return self._ended(buffer, End.SILENT)
            reads += 1
            if reads >= _EAGER:
                await asyncio.sleep(_GATHER)

    def _ended(self, buffer: bytes, end: End) -> Heard:
        what = {End.SILENT: "silent", End.CLOSED: "closed", End.RESET: "reset", End.LIMIT: "limit"}
        self._journal.note(what[end])  # type: ignore[arg-type]
        return Heard(buffer, end)

    async def _read(self, most: int, until: float) -> tuple[bytes, End | None]:
        if self._sock is None:
            return b"", self._broken or End.CLOSED
        if self._tunnel is None:
            return await self._read_raw(self._sock, most, until)
        loop = asyncio.get_running_loop()
        late = False
        left = _MOST_ENCIPHERED + most
        while True:
            try:
                plain = self._tunnel.read(most)
            except ssl.SSLError:
                return b"", End.RESET
            if plain is not None:
                return (plain, None) if plain else (b"", End.CLOSED)
            if late:  # records without content cannot hold us
                return b"", End.SILENT
            if left <= 0:  # nor fill us
                return b"", End.LIMIT
            late = loop.time() >= until
            await self._flush(self._sock, self._tunnel)
            data, end = await self._read_raw(self._sock, _CHUNK, until)
            if end is not None and end is not End.CLOSED:
                return b"", end
            self._journal.note_enciphered("received", data)
            self._tunnel.fed(data)
            left -= len(data)
            await asyncio.sleep(0)

    async def _read_raw(self, sock: socket.socket, most: int, until: float) -> tuple[bytes, End | None]:
        while True:
            try:
                data = sock.recv(most)
            except BlockingIOError:
                if not await ready(sock, until):
                    return b"", End.SILENT
            except OSError:
                return b"", End.RESET
            else:
                return (data, None) if data else (b"", self._broken or End.CLOSED)

    async def _flush(self, sock: socket.socket, tunnel: Tunnel) -> bool:
        data = tunnel.outgoing()
        if not data:
            return True
        await self._journal.pace(len(data))
        return await self._write_enciphered(sock, data)

    async def secure(self, request: StartTls) -> Reply:
        """Shake hands. After a failure the connection is of no more use and is closed."""
        if self._sock is None or self._journal.over:
            return await self._not_secured("not connected" if self._sock is None else NO_RESPONSE)
        if self._tunnel is not None:
            return await self._not_secured("TLS stands already")
        loop = asyncio.get_running_loop()
        until = min(loop.time() + request.seconds, self._journal.until)
        tunnel = Tunnel(request.server_name)
        late = False
        left = _MOST_ENCIPHERED
        while True:
            try:
                secured = tunnel.handshake()
            except ssl.SSLError as error:
                await self._flush(self._sock, tunnel)  # the alert
                return await self._not_secured(reason(error), tunnel)
            if not await self._flush(self._sock, tunnel):
                return await self._not_secured(End.RESET, tunnel)
            if secured is not None:
                self._tunnel = tunnel
                detail = f"{secured.version} {secured.cipher} {secured.certificate.hex()}"
                self._journal.note("secured", detail=detail)
                return secured
            if late or left <= 0:
                return await self._not_secured(NO_RESPONSE if late else End.LIMIT, tunnel)
            late = loop.time() >= until
            data, end = await self._read_raw(self._sock, _CHUNK, until)
            if end is not None:
                return await self._not_secured(NO_RESPONSE if end is End.SILENT else end, tunnel)
            self._journal.note_enciphered("received", data)
            tunnel.fed(data)
            left -= len(data)
            await asyncio.sleep(0)

    async def _not_secured(self, why: str, tunnel: Tunnel | None = None) -> NotSecured:
        why = str(why)
        if tunnel is not None:
            self._journal.keys += tunnel.keys()
        self._journal.note("not-secured", detail=why)
        if self._sock is not None and self._tunnel is None:
            await self.leave()
            self._broken = End.CLOSED
        return NotSecured(why)

    async def leave(self) -> None:
        """End the connection, and give the peer a moment to end its side."""
        sock = self._farewell()
        if sock is not None:
            await part(sock)

    def close(self) -> None:
        """End the connection without waiting."""
        sock = self._farewell()
        if sock is not None:
            sock.close()

    def _farewell(self) -> socket.socket | None:
        """End a TLS session; the socket that is left to be closed, if there is one."""
        sock, tunnel = self._sock, self._tunnel
        self._sock = self._tunnel = None
        if sock is not None and tunnel is not None:
            self._journal.keys += tunnel.keys()
            farewell = tunnel.farewell()
            with suppress(OSError):  # the peer is gone, which is the end
                self._journal.note_enciphered("sent", farewell[: sock.send(farewell)])
        return sock
