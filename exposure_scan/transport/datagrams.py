"""A conversation in datagrams: UDP here, and ICMP echo (see `echo`) with the same waits."""

from __future__ import annotations

import asyncio
import errno
import socket

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

from .icmp import read_addressed_errors, read_errors
from .journal import MOMENT, NO_ROOM, Journal, endpoint, local_error, ready

_HEADER = 28  # bytes that each datagram weighs beside its content, so that a flood of empty ones ends
_LARGEST = 65535
_STRANGERS = 16  # datagrams of others, and errors, that are passed over at one look
NO_PERMISSION = "no-permission"
# What a send tells although the fault lies with an earlier packet (ip(7): pending errors).
PENDING = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPROTO, errno.EMSGSIZE})
PENDING |= {
    errno.ECONNRESET,
    errno.ENOPROTOOPT,
    errno.EACCES,
    errno.EHOSTDOWN,
    errno.ENONET,
    errno.EOPNOTSUPP,
}


class Datagrams:
    """The UDP side of one conversation. `fault` is why this machine could not ask, if it could not."""

    def __init__(self, journal: Journal, port: int = 0, ttl: int | None = None) -> None:
        self.fault: str | None = None
        self.elsewhere: str | None = None  # the reason, where somebody answered whom we had not asked
        self.tries = 0
        self.rtt_ms: float | None = None  # from the last send to the first datagram that was enough
        self.local: str | None = None  # the address that the socket sent from
        self._journal = journal
        self._port = port
        self._ttl = ttl
        self._sock: socket.socket | None = None
        self._last_sent: float | None = None
        self._refused = False  # an ICMP error came that no wait has told yet

    # --- what differs in ICMP --------------------------------------------------------------------

    async def _open(self) -> socket.socket | None:
        return await self._journal.gate.udp(self._journal.target, self._port, self._ttl)

    def _outgoing(self, data: bytes) -> bytes:
        return data

    def _incoming(self, data: bytes) -> bytes | None:
        """The datagram as the conversation knows it; None for what is none of its."""
        return data

    # --- what a conversation asks ----------------------------------------------------------------

    async def connect(self) -> Reply:
        """Open the socket; nothing is sent."""
        self.close()
        try:
            self._sock = await self._open()
        except OSError as error:
            self.fault = local_error(error)
        if self._sock is None:
            why = self.fault or NO_PERMISSION
            self._journal.note("not-connected", detail=why)
            return NotConnected(why)
        self._journal.start()
        local, peer = endpoint(self._sock.getsockname()), (str(self._journal.target), self._port)
        self.local = local[0]
        self._journal.note("connected", detail=f"{endpoint_text(local)} {endpoint_text(peer)}")
        return Connected(local, peer)

    async def send(self, data: bytes) -> None:
        """Send one datagram."""
        if self._sock is None or self._journal.over:
            return
        await self._journal.pace(len(data))
        payload = self._outgoing(data)
        told = False  # of an earlier packet
        while self._sock is not None:
            self._read_icmp(self._sock)
            try:
                self._sock.send(payload)
            except OSError as error:
                if error.errno in NO_ROOM:
                    if self._journal.over:
                        break
                    await asyncio.sleep(MOMENT)
                elif self._read_icmp(self._sock) or (error.errno in PENDING and not told):
                    if told:
                        break
                    told = True  # this one did not go yet
                else:
                    self.fault = local_error(error)
                    break
            else:
                self.tries += 1
                self._last_sent = asyncio.get_running_loop().time()
                self._journal.note("sent", data)
                return
        self._journal.note("reset")

    async def receive(self, request: Receive) -> Heard:
        """Wait for a datagram that is enough; the others are recorded and passed over."""
        if self._sock is None:
            return Heard(b"", End.SILENT)
        loop = asyncio.get_running_loop()
        seconds = self._journal.patience(request.seconds) if request.prompt else request.seconds
        until = min(loop.time() + seconds, self._journal.until)
        weight = 0
        if self._journal.over:
            return self._ended(End.SILENT)
        while True:
            late = loop.time() >= until
            raw = self._take(self._sock)
            if raw is None:
                if self._refused:
                    self._refused = False
                    return self._ended(End.RESET)
                if late or not await ready(self._sock, until):
                    break
                continue
            data = self._incoming(raw)
            if data is not None:
                self._journal.note("received", data)
                if request.enough(data):
                    if self.rtt_ms is None and self._last_sent is not None:
                        self.rtt_ms = (loop.time() - self._last_sent) * 1000
                        if self.tries == 1:  # else it may answer an earlier try (Karn's algorithm)
                            self._journal.gate.note_rtt(self._journal.target, self.rtt_ms / 1000)
                    return Heard(data, End.ENOUGH)
            weight += len(raw) + _HEADER
            if weight > request.limit:
                return self._ended(End.LIMIT)
            if late:
                break
        return self._ended(End.SILENT)

    async def secure(self, _request: StartTls) -> Reply:
        """There is no TLS in datagrams."""
        self._journal.note("not-secured", detail="not a stream")
        return NotSecured("not a stream")

    def close(self) -> None:
        """Give up the socket."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _take(self, sock: socket.socket) -> bytes | None:
        """The next datagram that lies there. Errors that the kernel tells first are noted and passed."""
        for _ in range(_STRANGERS):
            try:
                data, source = sock.recvfrom(_LARGEST)
                if self._is_peer(source):
                    return data
            except BlockingIOError:
                self._read_icmp(sock)
                return None
            except OSError as error:
                if not self._read_icmp(sock) and error.errno not in PENDING:
                    self.fault = local_error(error)
                    self._refused = True
        return None

    def _is_peer(self, source: tuple[str, int]) -> bool:
        """Whether the port that was asked sent it. Who else answers is noted: the question is not settled then."""
        if not self._port:
            return True  # ICMP; that socket is connected
        sender = endpoint(source)
        if sender == (str(self._journal.target), self._port):
            return True
        place = "port" if sender[0] == str(self._journal.target) else "address"
        if self.elsewhere is None:
            self._journal.note("elsewhere", detail=endpoint_text(sender))
        self.elsewhere = self.elsewhere or f"answered-from-another-{place}"
        return False

    def _read_icmp(self, sock: socket.socket) -> bool:
        """Note the errors that came; whether there were any, be they about packets of ours or not."""
        asked = (str(self._journal.target), self._port)
        if self._port:  # not connected: the kernel takes whatever quotes our port
            told = [(error, about) for error, about, _ in read_addressed_errors(sock, _STRANGERS)]
        else:
            told = [(error, asked) for error in read_errors(sock)]
        if self._journal.note_icmp([error for error, about in told if about == asked]):
            self._refused = True
        return bool(told)

    def _ended(self, end: End) -> Heard:
        what = {End.SILENT: "silent", End.RESET: "reset", End.LIMIT: "limit"}
        self._journal.note(what[end])  # type: ignore[arg-type]
        return Heard(b"", end)
