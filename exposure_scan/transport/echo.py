"""Ping: ICMP echo through whichever way this machine allows (RFC 792, RFC 4443 section 4)."""

from __future__ import annotations

import asyncio
import shutil
import socket
import struct

from exposure_scan.conversation import Observation
from exposure_scan.model import Echo, PortState

from .children import environment
from .datagrams import NO_PERMISSION, Datagrams
from .journal import NO_RESPONSE, Answer, Journal, judge_icmp

_TRIES = 3  # of the system's ping
_PING_WAITS = 1  # seconds, its -W


class Echoes(Datagrams):
    """ICMP messages instead of datagrams: from the type on, checksum included.

    The kernel's ping socket puts an identifier of its own into what we send; the conversation gets
    back the one that it chose.
    """

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal)
        self.allowed = True
        self._raw = False
        self._identifier: bytes | None = None

    async def _open(self) -> socket.socket | None:
        sock = await self._journal.gate.icmp(self._journal.target)
        self.allowed = sock is not None
        self._raw = sock is not None and sock.type == socket.SOCK_RAW
        return sock

    def _outgoing(self, data: bytes) -> bytes:
        self._identifier = data[4:6]
        return data

    def _incoming(self, data: bytes) -> bytes | None:
        if self._raw and self._journal.target.address.version == 4:
            data = data[(data[0] & 0x0F) * 4 :] if data else b""  # a raw IPv4 socket shows the IP header
        if len(data) < 8:
            return None
        if self._identifier is None:
            return data
        if self._raw:  # it hears the replies to every ping of this machine
            return data if data[4:6] == self._identifier else None
        return with_identifier(data, self._identifier)

    def judge(self, observation: Observation) -> Answer:
        """What the address answered."""
        if observation.valid:
            return Answer(Echo.REPLIED, "echo-reply", str(self._journal.target), self.rtt_ms)
        if self.fault is not None:
            return Answer(Echo.UNMEASURED, self.fault)
        if not self.allowed:
            return Answer(Echo.UNMEASURED, NO_PERMISSION)
        told = judge_icmp(self._journal.icmp, self._journal.target.address, self.local)
        if told is not None and told.state is PortState.UNMEASURED:
            return Answer(Echo.UNMEASURED, told.reason)
        if not self.tries:
            return Answer(Echo.UNMEASURED, "not-asked")
        return Answer(Echo.SILENT, NO_RESPONSE)


def with_identifier(message: bytes, identifier: bytes) -> bytes:
    """The message with another identifier and the checksum that follows from it (RFC 1624, equation 3)."""
    checksum, before = struct.unpack("!HxxH", b"".join((message[2:4], b"\0\0", message[4:6])))
    (after,) = struct.unpack("!H", identifier)
    total = (~checksum & 0xFFFF) + (~before & 0xFFFF) + after
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return message[:2] + struct.pack("!H", ~total & 0xFFFF) + identifier + message[6:]


async def system_ping(journal: Journal) -> tuple[Answer, int]:
    """Ask the system's ping, which has the right that we lack: the answer, and how often it asked.

    Raises:
        NotAuthorized: no packet may go there.
    """
    program = shutil.which("ping")
    if program is None:
        return Answer(Echo.UNMEASURED, NO_PERMISSION), 0
    words = (program, "-c", "1", "-W", str(_PING_WAITS), str(journal.target.address))
    heard_silence = 0
    for tried in range(1, _TRIES + 1):
        await journal.pace(1)
        journal.start()
        code = await _run(words, journal.until - asyncio.get_running_loop().time())
        if code == 0:
            return Answer(Echo.REPLIED, "echo-reply", str(journal.target)), tried
        heard_silence += code == 1  # anything else is ping's own trouble
        if journal.over:
            break
    if heard_silence:
        return Answer(Echo.SILENT, NO_RESPONSE), heard_silence
    return Answer(Echo.UNMEASURED, NO_PERMISSION), 0


async def _run(words: tuple[str, ...], seconds: float) -> int | None:
    """The exit code, or None if it had to be killed."""
    nothing = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=nothing, stdout=nothing, stderr=nothing, env=environment()
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            return await process.wait()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
