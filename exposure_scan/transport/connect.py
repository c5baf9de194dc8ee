"""Whether a TCP port takes a connection: two hedged attempts, and what came of each.

One lost SYN must not make an open port look filtered. A second attempt from another local port
starts soon after the first; the kernel repeats the SYN of each. The first answer decides.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct

from exposure_scan.conversation import endpoint_text
from exposure_scan.model import PortState, Target

from .gate import Gate
from .icmp import IcmpError, read_errors
from .journal import NO_RESPONSE, RST, SYN_ACK, Answer, Journal, endpoint, judge_icmp, local_error, ready

HEDGE = 0.45  # seconds after the first attempt that the second starts
PATIENCE = 2.4  # seconds from the first SYN to giving up
PARTING = 0.5  # seconds that the other side has to close a connection which we have closed
SETTLED = 1.0  # seconds after which the third SYN has gone: then a path that is known is waited for shortly

_DRAIN = 65536  # bytes thrown away at the end, so that closing sends no reset
_CHUNK = 16384

_TCP_INFO_SIZE = 104  # linux/tcp.h, struct tcp_info up to tcpi_total_retrans
_RTT_AT, _RETRANSMITS_AT = 68, 100
_TORN_DOWN = frozenset({errno.ECONNRESET, errno.EPIPE})  # told only of a connection that stood (tcp_reset)
_RANKS = (PortState.OPEN, PortState.CLOSED, PortState.UNMEASURED, PortState.FILTERED)


class Attempt:
    """One socket that tries to connect. `tries` counts its SYNs, `socket` is there once it stands."""

    def __init__(self, journal: Journal, port: int) -> None:
        self.socket: socket.socket | None = None
        self.answer: Answer | None = None
        self.tries = 0
        self.sent = asyncio.Event()
        self._gate: Gate = journal.gate
        self._target: Target = journal.target
        self._journal = journal
        self._port = port
        self._errors: list[IcmpError] = []

    async def run(self, patience: float, *, begun: bool) -> Answer:
        """Connect, or find out why not. The time counts from when the gate let the SYN go.

        Raises:
            NotAuthorized: the gate refused.
        """
        try:
            self.socket = await self._gate.tcp(self._target, self._port, begun=begun)
        except OSError as error:
            if error.errno == errno.ECONNREFUSED:  # told at once, as on the loopback device
                self.tries = 1
                self._journal.start()
                return Answer(PortState.CLOSED, RST, str(self._target.address))
            return Answer(PortState.UNMEASURED, local_error(error))
        start = asyncio.get_running_loop().time()
        self._journal.start()
        ends = endpoint(self.socket.getsockname()), (str(self._target.address), self._port)
        self._journal.note("asking", detail=f"{endpoint_text(ends[0])} {endpoint_text(ends[1])}")
        self.tries = 1
        self.sent.set()
        try:
            self.answer = await self._wait(self.socket, start, patience)
        finally:
            self.tries += _info(self.socket, _RETRANSMITS_AT)
            if self.answer is None or self.answer.state is not PortState.OPEN:
                self.close()
        return self.answer

    async def _settled(self, sock: socket.socket, start: float, patience: float) -> bool:
        """Wait until the attempt is decided; False when it stays without an answer."""
        third = start + SETTLED - (PATIENCE - patience)  # the hedge starts later and has less time
        if await ready(sock, third, write=True):
            return True
        until = min(start + patience, third + self._journal.patience(PATIENCE))
        return await ready(sock, until, write=True)

    async def _wait(self, sock: socket.socket, start: float, patience: float) -> Answer:
        host = str(self._target.address)
        while await self._settled(sock, start, patience):
            rtt = (asyncio.get_running_loop().time() - start) * 1000
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._read_icmp(sock)
            repeated = _info(sock, _RETRANSMITS_AT) > 0
            if code == 0:
                try:
                    if sock.getpeername() == sock.getsockname():  # both ends are ours: nobody listens there
                        return Answer(PortState.CLOSED, RST, host)
                except OSError:
                    continue  # an ICMP error that did not end the attempt
                measured = _info(sock, _RTT_AT) / 1000  # the kernel's, in microseconds
                self._learn(measured)
                return Answer(PortState.OPEN, SYN_ACK, host, measured or (None if repeated else rtt))
            if code in _TORN_DOWN:
                return Answer(PortState.OPEN, SYN_ACK, host, None if repeated else rtt)
            if code == errno.ETIMEDOUT:
                break
            refused = self._judged(sock)
            if refused is not None:
                return refused
            if code == errno.ECONNREFUSED:
                self._learn(0.0 if repeated else rtt)
                return Answer(PortState.CLOSED, RST, host, None if repeated else rtt)
            return Answer(PortState.UNMEASURED, local_error(os.strerror(code)))
        return self._judged(sock) or Answer(PortState.FILTERED, NO_RESPONSE)

    def _learn(self, rtt_ms: float) -> None:
        if rtt_ms > 0:
            self._gate.note_rtt(self._target, rtt_ms / 1000)

    def _read_icmp(self, sock: socket.socket) -> None:
        errors = read_errors(sock)
        self._journal.note_icmp(errors)
        self._errors += errors

    def _judged(self, sock: socket.socket) -> Answer | None:
        try:
            local = endpoint(sock.getsockname())[0]
        except OSError:
            local = None
        return judge_icmp(self._errors, self._target.address, local)

    def close(self) -> None:
        """Give up the socket, if there is one."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None


async def first_connect(journal: Journal, port: int) -> tuple[Answer, int, socket.socket | None]:
    """The port's state, the SYNs that it took, and the connected socket if it is open.

    Raises:
        NotAuthorized: the gate refused; nothing stays open.
    """
    first, second = Attempt(journal, port), Attempt(journal, port)

    async def later() -> Answer:
        await first.sent.wait()
        await asyncio.sleep(HEDGE)
        return await second.run(PATIENCE - HEDGE, begun=True)

    tasks = [asyncio.create_task(first.run(PATIENCE, begun=False)), asyncio.create_task(later())]
    winner: Attempt | None = None
    answers: list[Answer] = []
    try:
        try:
            for finished in asyncio.as_completed(tasks):
                answer = await finished
                answers.append(answer)
                if answer.state is PortState.OPEN:
                    winner = first if first.answer is answer else second
                # A router's "unreachable" may pass with the next packet; a host's own word stands.
                if answer.state is not PortState.FILTERED:
                    break
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    except BaseException:
        winner = None  # cancelled: nobody is left to close what stands
        raise
    finally:
        for attempt in (first, second):
            if attempt is not winner:
                attempt.close()
    best = min(answers, key=lambda answer: (_RANKS.index(PortState(answer.state)), answer.by is None))
    sock = winner.socket if winner is not None else None
    return best, first.tries + second.tries, sock


async def part(sock: socket.socket, seconds: float = PARTING) -> None:
    """End a connection: our FIN, then a moment for theirs. Whatever they still say would else meet a reset."""
    loop = asyncio.get_running_loop()
    until, drained = loop.time() + seconds, 0
    try:
        sock.shutdown(socket.SHUT_WR)
        while drained < _DRAIN and loop.time() < until and await ready(sock, until) and (data := sock.recv(_CHUNK)):
            drained += len(data)
    except OSError:
        pass  # it is gone, or nothing was there to read: both are the end
    finally:
        sock.close()


def _info(sock: socket.socket, at: int) -> int:
    """A 32-bit field of the kernel's TCP_INFO; 0 if it does not tell."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
    except OSError:
        return 0
    return int(struct.unpack_from("=I", info, at)[0]) if len(info) >= at + 4 else 0
