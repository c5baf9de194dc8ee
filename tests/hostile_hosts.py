"""Scans of the lab's hostile hosts, many at once in one loop and through one gate, by either way of asking."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from exposure_scan import scope, sweep
from exposure_scan.conversation import events_of
from exposure_scan.lab import forgers, hostile, network, traps
from exposure_scan.model import Evidence, Finding, Port, Scan, Target
from exposure_scan.sweep import Result
from exposure_scan.transport import Gate
from exposure_scan.transport.journal import DEADLINE
from exposure_scan.transport.raw import Engine

STREAMS = tuple(traps.TRAPS)
PACKETS = tuple(forgers.FORGERS)
FLOODS = ("icmp-flood", "udp-flood")
AT_ONCE = 24  # more would keep the lab's own process from answering in time
SIP_PORTS = ("tcp/5060", "tcp/5061")
PATIENCE = 4 * DEADLINE  # seconds of a scan: a conversation's own limit, its repetitions, and a busy machine


@dataclass(frozen=True, slots=True)
class Place:
    """One host: what it does, at which address, and whether it serves honest SIP besides."""

    trap: str
    honest: bool
    address: str

    @property
    def text(self) -> str:
        """As the lab's process wants it."""
        return f"{self.address}={self.trap}{'+' if self.honest else ''}"

    @property
    def kept(self) -> tuple[str, ...]:
        """The ports of the honest service."""
        if not self.honest:
            return ()
        return ("udp/5060",) if self.trap in traps.TRAPS else ("udp/5060", "tcp/5060")

    @property
    def trapped(self) -> tuple[str, ...]:
        """The ports where it does harm, over TCP."""
        return tuple(f"tcp/{port}" for port in traps.TRAPS.get(self.trap, ()))


def places(names: Iterable[str]) -> list[Place]:
    """Two hosts for each trap, one of them with the honest service."""
    found = []
    for number, trap in enumerate(names, start=1):
        nets = (66, 67) if trap in traps.TRAPS else (68, 68)
        for honest, net in zip((True, False), nets, strict=True):
            last = 2 * number + honest if net == 68 else number
            found.append(Place(trap, honest, f"198.18.{net}.{last}"))
    return found


async def _leave_all(
    _: Engine, __: Target, questions: list[Any], ___: object, told: Callable[[int, None], None]
) -> None:
    for number in range(len(questions)):
        told(number, None)


@contextlib.contextmanager
def asking(way: str) -> Iterator[None]:
    """Ask by the raw engine, or by ordinary sockets alone as without the privilege."""
    with pytest.MonkeyPatch.context() as patch:
        if way == "ordinary":
            patch.setattr(Engine, "ask", _leave_all)
            patch.setattr(Gate, "packet_capture", lambda _: None)
        yield


def scan_all(hosts: list[Place]) -> dict[tuple[str, bool], Result]:
    """Scan them all at once.

    What a trap serves where no SIP is due is declared as expected, so that its being open alone settles nothing.
    """

    async def one(gate: Gate, turns: asyncio.Semaphore, place: Place) -> tuple[tuple[str, bool], Result]:
        declared = [key for key in place.trapped if key not in SIP_PORTS and not place.honest]
        expect = ",".join(declared)
        order = scope.order_from_words(
            [place.address], authorized_by="practice site", device="server", expect=expect or None
        )
        async with turns, asyncio.timeout(PATIENCE):
            return (place.trap, place.honest), await sweep.scan_site(order, gate=gate)

    async def main() -> dict[tuple[str, bool], Result]:
        gate, turns = Gate(), asyncio.Semaphore(AT_ONCE)
        async with gate.lag.measured():
            return dict(await asyncio.gather(*(one(gate, turns, place) for place in hosts)))

    with hostile.running([place.text for place in hosts]):
        return asyncio.run(main())


@contextlib.contextmanager
def elsewhere() -> Iterator[list[socket.socket]]:
    """Listeners where redirects lead."""
    with contextlib.suppress(FileExistsError):
        network.add_address(traps.ELSEWHERE)
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(_listener(port)) for port in (80, 443, 8080)]


def _listener(port: int) -> socket.socket:
    made = socket.create_server((traps.ELSEWHERE, port))
    made.setblocking(False)
    return made


def nobody_came(listeners: Iterable[socket.socket]) -> bool:
    """Whether none of them was connected to."""
    for listener in listeners:
        with contextlib.suppress(BlockingIOError):
            listener.accept()[0].close()
            return False
    return True


def ports(scan: Scan) -> Mapping[str, Port]:
    """The ports that are not closed."""
    return {port.key: port for port in scan.hosts[0].ports if port.state != "closed"}


def findings(scan: Scan) -> Mapping[str, Finding]:
    return {finding.practice: finding for finding in scan.findings}


def heard(proof: Evidence) -> int:
    """Bytes that were received for one piece of evidence."""
    return sum(len(event.data) for event in events_of(proof) if event.what == "received")
