"""The vantage check: what can leave this network, tried on a machine of the partner's own.

A scan that finds port 25 filtered says something about the customer only if port 25 can leave the
scanner's network at all, and if nobody there answers in the customer's place.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Literal

from exposure_scan import __version__, plan, protocols, scope, vantage
from exposure_scan.conversation import Caller, Exchange
from exposure_scan.model import PortState, Problem, Question, Target, Vantage
from exposure_scan.protocols.vantage import HELLO, answer, seen_as
from exposure_scan.transport import Gate, converse

from . import Notice, Progress, now

_ROUNDS = 2  # what failed is tried once more: a port that is wrongly called blind stays so for weeks


class Reach(StrEnum):
    """What came of one port."""

    OK = "ok"
    BLIND = "blind"  # no answer, or an error
    FORGED = "forged"  # somebody answered who is not the machine that was asked


@dataclass(frozen=True, slots=True)
class Found:
    """One port (``tcp/25``) of one address of the host: how far it got, and what was seen, in a few words."""

    address: str
    port: str
    reach: Reach
    because: str


@dataclass(frozen=True, slots=True)
class Check:
    """What a check found. Without a proof from the host it says nothing about any port."""

    host: str
    on: datetime
    found: tuple[Found, ...]
    seen: tuple[str, ...]  # the addresses that the host saw us come from
    left_aside: tuple[str, ...]  # addresses of the host that proved nothing, where another did

    @property
    def proven(self) -> bool:
        """Whether the host proved on any port that it holds the key."""
        return bool(self.seen)

    def ports(self, reach: Reach) -> tuple[str, ...]:
        """The ports of this kind, each once; what fails to one address of the host counts as failed."""
        worst: dict[str, Reach] = {}
        order = list(Reach)
        for found in self.found:
            worst[found.port] = max(worst.get(found.port, Reach.OK), found.reach, key=order.index)
        return tuple(port for port, what in worst.items() if what is reach)

    def keep(self, path: Path) -> None:
        """Write the result to `path`, for scans to come.

        Raises:
            Problem: it cannot be written.
        """
        from exposure_scan import files

        made = Vantage(
            name=f"network of {' and '.join(self.seen)}",
            checked=True,
            on=self.on,
            blind=self.ports(Reach.BLIND),
            forged=self.ports(Reach.FORGED),
        )
        files.write_file(path, vantage.Stored(host=self.host, vantage=made).to_json())


async def check(
    order: scope.Order,
    key: bytes,
    *,
    notice: Notice = lambda _: None,
    clock: Callable[[], datetime] = now,
) -> Check:
    """Try every port of the default plan on a machine where ``vantage serve`` runs with the same key.

    Raises:
        Problem: no live authorization, or the order is of more than one machine; nothing was sent.
    """
    targets = await scope.resolve(order, clock=clock)
    if any(count > 1 for count in Counter(target.address.version for target in targets).values()):
        raise Problem(
            f"{order.site.name} is {len(targets)} addresses; name the one machine of yours that runs `vantage serve`."
        )
    gate = Gate(clock=clock)
    for target in targets:
        gate.admit(target)
    on = clock()
    caller = Caller(f"exposure-scan/{__version__}", "", key)
    asked = [(target, question) for target in targets for question in _questions()]
    told: dict[tuple[Target, Question], Exchange] = {}

    async def ask(target: Target, question: Question) -> None:
        words = protocols.conversation(question.probe, secrets.token_hex(8), caller)
        told[target, question] = await converse(gate, target, question, words)
        notice(Progress(order.site.name, len(told), len(asked)))

    notice(Progress(order.site.name, 0, len(asked)))
    for _ in range(_ROUNDS):
        again = [pair for pair in asked if pair not in told or not told[pair].observation.valid]
        await asyncio.gather(*(ask(*pair) for pair in again))
    return conclude(order.site.name, on, [(str(pair[0]), told[pair]) for pair in asked])


def _questions() -> Iterable[Question]:
    for port in plan.default_ports():
        transport: Literal["tcp", "udp"] = "tcp" if port.startswith("tcp/") else "udp"
        yield Question(transport, int(port.partition("/")[2]), f"vantage-{transport}", "whether it can leave here")


def conclude(host: str, on: datetime, told: Sequence[tuple[str, Exchange]]) -> Check:
    """What the answers show; each exchange with the address that was asked."""
    found: list[Found] = []
    seen: list[str] = []
    aside: list[str] = []
    for address in dict.fromkeys(address for address, _ in told):
        exchanges = [exchange for other, exchange in told if other == address]
        proofs = Counter(source.rpartition("|")[0] for one in exchanges if (source := seen_as(one.observation)))
        if proofs:
            seen.append(proofs.most_common(1)[0][0])
        else:
            aside.append(address)
        found += [Found(address, str(one.question), *reached) for one, reached in _judged(exchanges)]
    if seen:  # an address of a family that this network does not have shows nothing of the ports
        found = [one for one in found if one.address not in aside]
    return Check(host, on, tuple(found), tuple(dict.fromkeys(seen)), tuple(aside) if seen else ())


def _judged(exchanges: Sequence[Exchange]) -> Iterable[tuple[Exchange, tuple[Reach, str]]]:
    """What came of each port of one address.

    A proxy that passes everything on shows by where it comes from: from another address than most of
    our packets, or from a port that is not ours where most come as we sent them.
    """
    ends = [
        (_local(one), source) for one in exchanges if (source := seen_as(one.observation)) is not None
    ]  # ours, and what the host saw of it
    usual = _most(source.rpartition("|")[0] for _, source in ends)
    untouched = _most(local == source for local, source in ends) is True
    for one in exchanges:
        source = seen_as(one.observation)
        if source is None:
            yield one, _unproven(one)
        elif usual is not None and source.rpartition("|")[0] != usual:
            yield one, (Reach.FORGED, f"passed on by {source.rpartition('|')[0]}; the others come from {usual}")
        elif untouched and source != _local(one):
            yield one, (Reach.FORGED, "passed on from a port that is not ours; the others come as we sent them")
        else:
            yield one, (Reach.OK, "seen from {} port {}".format(*source.rsplit("|", 1)))


def _most(values: Iterable[object]) -> object:
    """What more than half of the values are; None where there is no such."""
    counts = Counter(values)
    value, times = counts.most_common(1)[0] if counts else (None, 0)
    return value if 2 * times > counts.total() else None


def _local(exchange: Exchange) -> str:
    """From where we asked: the last connection is the one that was answered."""
    return next(event.detail.split(" ")[0] for event in reversed(exchange.events) if event.what == "connected")


def _unproven(one: Exchange) -> tuple[Reach, str]:
    if one.observation.answered:
        said = one.observation.banner
        return Reach.FORGED, f'answered "{said}"' if said else "answered without words"
    if one.state is PortState.OPEN:
        return Reach.FORGED, "a connection is accepted, and nobody there proves the key"
    if one.by is not None:
        return Reach.BLIND, f"{one.reason} from {one.by}"
    return Reach.BLIND, "no answer" if one.reason == "no-response" else one.reason


async def serve(key: bytes, listen: str | None, ready: Callable[[vantage.Serving], None]) -> None:
    """Serve every port of the default plan until SIGINT or SIGTERM; `ready` is told when it can be asked.

    Raises:
        Problem: `listen` is no address, or no port could be opened.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with vantage.serving(plan.default_ports(), partial(answer, key), HELLO, listen=listen) as served:
        ready(served)
        await ended.wait()


def looking_from(order: scope.Order, path: Path, at: datetime) -> scope.Order:
    """The order with what is known of this network: the sites file's own check, else the one kept at `path`."""
    ours = order.vantage
    if ours.checked or ours.blind or ours.forged:
        return order
    kept = vantage.load_stored(path, at)
    if kept is None:
        return order
    name = kept.name if ours.name == scope.NOWHERE else ours.name
    return replace(order, vantage=kept.model_copy(update={"name": name, "outside": ours.outside}))
