"""Calls in the future by the hundred thousand: the event loop's own compare in Python, and cost several times more."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

_SLICE = 256  # calls before others get their turn


class Timer:
    """A call that was ordered."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Do not call."""
        self.call = None


class Timers:
    """The calls of one event loop that were ordered here, in the order of their times."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = count()
        self._armed: asyncio.TimerHandle | None = None

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call after so many seconds."""
        return self.at(self._loop.time() + seconds, call)

    def at(self, when: float, call: Callable[[], None]) -> Timer:
        """Call at a time of the event loop's clock."""
        timer = Timer(call)
        heapq.heappush(self._heap, (when, next(self._numbers), timer))
        if self._armed is None or when < self._armed.when():
            self._arm()
        return timer

    def close(self) -> None:
        """Call nothing more."""
        self._heap.clear()
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None

    def _arm(self) -> None:
        if self._armed is not None:
            self._armed.cancel()
        self._armed = self._loop.call_at(self._heap[0][0], self._run) if self._heap else None

    def _run(self) -> None:
        self._armed = None
        now = self._loop.time()
        try:
            for _ in range(_SLICE):
                if not self._heap or self._heap[0][0] > now:
                    break
                call = heapq.heappop(self._heap)[2].call
                if call is not None:
                    call()
        finally:  # a fault in one of them stops none of the others
            self._arm()
