"""How fast we may go: a token bucket for the packets, how soon a host answers, how late this process itself is."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_LAG_STEP = 0.05  # seconds between two looks at the clock
_LATE = 0.1  # seconds of lag that halve the pace
_ALMOST = 1e-9  # of a token; what floating point loses
_SHORTEST_WAIT = 0.4  # seconds for an answer, on however short a path


@dataclass(slots=True)
class Bucket:
    """A token bucket: one token is one packet. Times are seconds of any one clock."""

    rate: float
    burst: float
    tokens: float = field(init=False)
    stamp: float | None = None

    def __post_init__(self) -> None:
        self.burst = max(1.0, self.burst)
        self.tokens = self.burst

    def take(self, now: float, cost: float) -> float:
        """Take `cost` tokens and return 0, or take none and return the seconds to wait.

        What costs more than the bucket holds passes when the bucket is full, and leaves a debt.
        """
        return self.take_some(now, cost, 1)[1]

    def take_some(self, now: float, cost: float, most: int) -> tuple[int, float]:
        """Take `cost` tokens as often as there are enough, at most so often.

        Returns:
            How often, and the seconds to wait where it is not once.
        """
        if self.stamp is not None:
            self.tokens = min(self.burst, self.tokens + (now - self.stamp) * self.rate)
        self.stamp = now
        missing = min(cost, self.burst) - self.tokens
        if missing > _ALMOST:
            return 0, missing / self.rate
        times = min(most, max(1, int((self.tokens + _ALMOST) / cost))) if most > 1 else 1
        self.tokens -= cost * times
        return times, 0.0

    def owe(self, cost: float) -> None:
        """Take tokens for what was sent without asking; whoever comes next waits for it."""
        self.tokens -= cost


class Turn(NamedTuple):
    """How many packets may leave, and where that is none: seconds to wait, and whether everybody has to."""

    packets: int
    wait: float
    everybody: bool


@dataclass(slots=True)
class RoundTrips:
    """How long a host takes to answer, in seconds (RFC 6298, section 2)."""

    known: tuple[float, float] | None = None  # smoothed, and its variation

    def note(self, seconds: float) -> None:
        """It answered after so long."""
        if self.known is None:
            self.known = (seconds, seconds / 2)
        else:
            smoothed, variation = self.known
            self.known = (smoothed * 7 / 8 + seconds / 8, variation * 3 / 4 + abs(smoothed - seconds) / 4)

    def patience(self, seconds: float) -> float:
        """How long to wait for an answer that comes at once if it comes.

        `seconds`, or less where it has answered before: three times what RFC 6298 would wait before it sends again.
        """
        if self.known is None:
            return seconds
        smoothed, variation = self.known
        return min(seconds, max(_SHORTEST_WAIT, 3 * (smoothed + 4 * variation)))


@dataclass(slots=True, eq=False)
class Lateness:
    """How late the event loop was at worst while somebody noticed, in seconds."""

    worst: float = 0.0


@dataclass(slots=True)
class Lag:
    """How late this process's event loop runs just now, in seconds. The pace follows it."""

    now: float = 0.0
    _noticed: set[Lateness] = field(default_factory=set)

    @property
    def slowdown(self) -> float:
        """How many times slower to go: a loop that is late cannot listen to more."""
        return 1.0 + min(9.0, self.now / _LATE)

    @contextmanager
    def noticed(self) -> Iterator[Lateness]:
        """How late it is at worst while the block runs: one scan's, where many share the loop."""
        mine = Lateness()
        self._noticed.add(mine)
        try:
            yield mine
        finally:
            self._noticed.discard(mine)

    @asynccontextmanager
    async def measured(self) -> AsyncIterator[None]:
        """Measure while the block runs."""

        async def measure() -> None:
            loop = asyncio.get_running_loop()
            while True:
                due = loop.time() + _LAG_STEP
                await asyncio.sleep(_LAG_STEP)
                self.now = max(0.0, loop.time() - due)
                for one in self._noticed:
                    one.worst = max(one.worst, self.now)

        task = asyncio.create_task(measure())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def owe_if_waiting(sock: socket.socket, bucket: Bucket) -> None:
    """Charge a SYN that the kernel repeated by itself, if the connection still does not stand."""
    try:
        sock.getpeername()
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            bucket.owe(1)


def repeated_syns() -> tuple[float, ...]:
    """When the kernel repeats a SYN within the three seconds that an attempt lasts, TCP_SYNCNT being 1.

    After 1 s. Since Linux 6.5 the first repetitions come every second (sysctl
    net.ipv4.tcp_syn_linear_timeouts, added to TCP_SYNCNT), which makes two.
    """
    try:
        linear = int(Path("/proc/sys/net/ipv4/tcp_syn_linear_timeouts").read_text())
    except (OSError, ValueError):
        linear = 0
    return (1.0, 2.0) if linear else (1.0,)
