"""The wide sweep: a knock at every other TCP port, within the pace, to find what was moved.

A bounded number of knocks is under way at once, in an order that no neighbour in number follows its
neighbour. Somebody may begin to block us meanwhile, so it is looked again and again whether the host is
still there: silence counts only where a sign of life came after it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime

from exposure_scan.model import PortState, Problem, Target
from exposure_scan.transport import Gate, Knock, knock

from .knocks import WENT_DARK, Knocks, knocks

log = logging.getLogger("exposure_scan")

LOOK_PORTS = 2000  # knocks after which it is looked whether the host is still there
LOOK_SECONDS = 30.0  # likewise
_STEP = 64  # knocks that are told of together
_FEWEST, _MOST = 16, 512  # knocks at once
_UNDER_WAY = 1.5  # knocks at once for each packet a second: silence takes two packets and less than two seconds
_MOST_FAULTS = 1024  # ports that are knocked at once more after a fault of ours


class Wide:
    """One target's sweep.

    Args:
        gate: where the target was admitted.
        target: whom to knock at.
        is_there: looks whether the host still answers; told a port that answered a knock, for want of others.
        counted: told of so many ports more that are done.
    """

    def __init__(
        self,
        gate: Gate,
        target: Target,
        is_there: Callable[[int | None], Awaitable[bool]],
        counted: Callable[[int], None],
    ) -> None:
        self.opened: dict[int, None] = {}  # in the order of finding
        self._gate, self._target = gate, target
        self._is_there, self._counted = is_there, counted
        self._known: dict[int, Knock] = {}
        self._silent: dict[int, Knock] = {}  # since the last sign of life
        self._first: dict[Knock, datetime] = {}
        self._same: dict[Knock, Knock] = {}  # one object for all that are equal: there are 65,535
        self._answering: int | None = None
        self._done = self._told = self._since = 0
        self._faults: set[str] = set()
        self._due = asyncio.Event()
        self._ended = self._stopped = False

    async def run(self, ports: Sequence[int], seed: str) -> list[Knocks]:
        """Knock at the ports, in an order that `seed` makes, and return what came, together.

        Raises:
            NotAuthorized: the consent is missing, or ended meanwhile.
        """
        order = list(ports)
        random.Random(seed).shuffle(order)  # noqa: S311 - to be repeatable, not to be secret
        async with self._gate.consented(self._target):
            await self._all(order)
            faults = [port for port in order if self._is_fault(port)]
            if len(faults) <= _MOST_FAULTS and not self._stopped:
                await self._all(faults)
            if not self._stopped:
                await self._look()
        for port, seen in self._silent.items():  # nobody has shown since that a packet still got through
            self._keep(port, Knock(PortState.UNMEASURED, WENT_DARK, None, seen.tries))
        for port in order:
            if port not in self._known:
                self._keep(port, Knock(PortState.UNMEASURED, WENT_DARK, None, 0))
        self._counted(len(order) - self._told)
        return self._groups()

    def _groups(self) -> list[Knocks]:
        groups: dict[Knock, list[int]] = {}
        for port, seen in self._known.items():
            groups.setdefault(seen, []).append(port)
        return [
            knocks(seen.state, seen.reason, seen.by, seen.tries, self._first[seen], group)
            for seen, group in groups.items()
        ]

    # --- knocking --------------------------------------------------------------------------------

    async def _all(self, order: Sequence[int]) -> None:
        todo = iter(order)
        self._ended = False
        number = min(len(order), _MOST, max(_FEWEST, round(self._target.packets_per_second * _UNDER_WAY)))
        watch = asyncio.create_task(self._watch())
        workers = [asyncio.create_task(self._knocks(todo)) for _ in range(number)]
        working = asyncio.gather(*workers)
        working.add_done_callback(self._end)
        try:
            await asyncio.gather(working, watch)
        finally:
            for task in (*workers, watch):
                task.cancel()
            await asyncio.gather(*workers, watch, return_exceptions=True)

    def _end(self, _: object) -> None:
        self._ended = True
        self._due.set()

    async def _knocks(self, todo: Iterator[int]) -> None:
        while not self._stopped and (port := next(todo, None)) is not None:
            at = self._gate.now()
            seen = await self._knock(port)
            seen = self._same.setdefault(seen, seen)
            self._first[seen] = min(at, self._first.get(seen, at))
            self._note(port, seen)

    async def _knock(self, port: int) -> Knock:
        """Knock. A fault of ours makes the port unmeasured and nothing else."""
        try:
            return await knock(self._gate, self._target, port)
        except Problem:
            raise
        except Exception as error:  # the one spot where a fault of ours becomes a port's state
            reason = f"our-error: {type(error).__name__}"
            if reason not in self._faults:  # once: there may be thousands
                self._faults.add(reason)
                log.exception("%s tcp/%s: a fault in exposure-scan; it is reported as unmeasured", self._target, port)
            return Knock(PortState.UNMEASURED, reason, None, 0)

    def _note(self, port: int, seen: Knock) -> None:
        self._done += port not in self._known
        if self._done >= self._told + _STEP:
            self._counted(self._done - self._told)
            self._told = self._done
        if seen.state is PortState.FILTERED and seen.by is None:
            self._silent[port] = seen
            self._known.pop(port, None)  # a fault of ours, before
        else:
            self._known[port] = seen
        if seen.state is PortState.OPEN:
            self.opened[port] = None
        if self._answering is None and seen.by == str(self._target):
            self._answering = port
        self._since += 1
        if self._since >= LOOK_PORTS:
            self._due.set()

    def _keep(self, port: int, seen: Knock) -> None:
        self._first.setdefault(seen, self._gate.now())
        self._known[port] = seen

    def _is_fault(self, port: int) -> bool:
        seen = self._known.get(port)
        return seen is not None and seen.reason.startswith(("local-error", "our-error"))

    # --- whether somebody is still there ---------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._due.wait()
            self._due.clear()
            if self._ended:
                return
            if not await self._look():
                self._stopped = True
                return

    async def _look(self) -> bool:
        """Whether the host still answers; the silence before the look then counts."""
        self._since = 0
        before, self._silent = self._silent, {}
        if before and not await self._is_there(self._answering):
            self._silent = before | self._silent
            return False
        self._known |= before
        return True
