"""Whether a consent lasts, by a time of day that nobody sets back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from exposure_scan.model import Problem, Target

WATCH = 0.25  # seconds between two looks at whether a consent has ended


class NotAuthorized(Problem):
    """No consent: never recorded, ended, or for another address. No packet was sent."""


def wall() -> datetime:
    """The time of day, aware, UTC."""
    return datetime.now(UTC)


def since_boot() -> float:
    """Seconds that nobody can set, and that pass while the machine sleeps, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Onward:
    """The time of day as consent is judged by it: it goes on with the machine, and never back.

    Where the clock of the machine is set back, the time passes on from the latest that it showed: what had
    ended stays ended, and what ends in an hour ends in an hour. A clock that is set forward is believed. That
    may end a consent too early, which costs a scan; the other way would cost a promise.
    """

    def __init__(self, clock: Callable[[], datetime] = wall, steady: Callable[[], float] = since_boot) -> None:
        self._clock, self._steady = clock, steady
        self._latest, self._at = clock(), steady()

    def __call__(self) -> datetime:
        """The later of what the clock says and what has passed since it said the latest."""
        at = self._steady()
        passed = self._latest + timedelta(seconds=max(0.0, at - self._at))
        self._latest, self._at = max(self._clock(), passed), at
        return self._latest

    def ended(self, target: Target) -> bool:
        """Whether the consent to scan this address has ended."""
        until = target.authorization.until
        return until is not None and self() >= until


class Watch:
    """Ends what runs under a consent within a second after it has ended."""

    def __init__(self, onward: Onward) -> None:
        self._onward = onward
        self._running: dict[asyncio.Timeout, tuple[Callable[[], Target], Callable[[], None]]] = {}
        self._looking = False

    @asynccontextmanager
    async def over(self, whose: Callable[[], Target], tear: Callable[[], None]) -> AsyncIterator[None]:
        """Run the block while the consent lasts.

        Args:
            whose: the target, under the consent of the moment.
            tear: called when it has ended, before the block is.

        Raises:
            NotAuthorized: it ended while the block ran.
        """
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._running[limit] = whose, tear
                self._begin()
                try:
                    yield
                finally:
                    del self._running[limit]
        except TimeoutError:
            if limit.expired():
                raise NotAuthorized(ended_sentence(whose())) from None
            raise

    def _begin(self) -> None:
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(WATCH, self._look)

    def _look(self) -> None:
        self._looking = False
        for limit, (whose, tear) in list(self._running.items()):
            if limit.when() is None and self._onward.ended(whose()):  # once is enough
                tear()
                limit.reschedule(asyncio.get_running_loop().time())
        if self._running:
            self._begin()


def ended_sentence(target: Target) -> str:
    """That it has, in words."""
    return f"The authorization for {target.address} ended at {target.authorization.until}; renew it, then scan again."
