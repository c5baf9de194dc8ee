"""From what a person ordered to a scan that is judged: one site, or several at once."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from exposure_scan import __version__, classify, plan, scope
from exposure_scan.conversation import Caller
from exposure_scan.model import Evidence, Pack, Scan, Scanner, Target
from exposure_scan.model.ranges import ranges_text
from exposure_scan.transport import (
    HEADER,
    Capture,
    Flow,
    Frames,
    Gate,
    Lateness,
    Sketch,
    engine,
    hosts_of,
    rebuild,
    record,
    sketched_flows,
)

from . import derive, rules, second
from .asking import Asking, Told
from .hosts import Asked, host_of, judge, packs_of
from .knocks import read_ports

log = logging.getLogger("exposure_scan")

_NO_CONTACT = "ask the operator of the sending address"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a site is: `done` of `of` questions answered or given up."""

    site: str
    done: int
    of: int


@dataclass(frozen=True, slots=True)
class Result:
    """A finished scan, its capture (pcap; how it was made stands in `Scan.capture`), and the keys of its TLS sessions.

    `keys` is an NSS key log: lines by which anybody can read those sessions in the capture.
    """

    scan: Scan
    capture: bytes | None
    keys: str = ""


Notice = Callable[[Progress], None]


def now() -> datetime:
    """The time of day, aware, UTC."""
    return datetime.now(UTC)


async def scan_site(
    order: scope.Order,
    *,
    ports: str | tuple[str, ...] = "default",
    known: classify.Known | None = None,
    notice: Notice = lambda _: None,
    clock: Callable[[], datetime] = now,
    gate: Gate | None = None,
    second_opinion: bool = False,
) -> Result:
    """Scan one site and judge it by the fingerprints of `known`, by default the scanner's own.

    `gate` is one that several scans share; it keeps their pace, and whoever made it measures its lag.
    With `second_opinion` Nmap looks at the same ports right after us, where it is installed.

    Raises:
        Problem: no live authorization, or a target that may not be asked; nothing was sent.
    """
    own = gate or Gate(clock=clock)
    targets = await scope.resolve(order, clock=own.onward)
    if gate is not None:
        async with gate.admitted(targets):
            return await _scan(order, targets, gate, ports, known, notice, second_opinion)
    async with own.lag.measured(), own.admitted(targets):
        return await _scan(order, targets, own, ports, known, notice, second_opinion)


async def _scan(
    order: scope.Order,
    targets: Sequence[Target],
    gate: Gate,
    ports: str | tuple[str, ...],
    known: classify.Known | None,
    notice: Notice,
    second_opinion: bool,
) -> Result:
    started = gate.now()
    caller = _caller(__version__, order.partner)
    questions = {target: plan.questions(target.address, order.site, ports) for target in targets}
    swept = {target: plan.swept_ports(questions[target], ports) for target in targets}
    done, of = 0, sum(len(questions[target]) + len(swept[target]) for target in targets)
    notice(Progress(order.site.name, done, of))

    def more(number: int) -> None:
        nonlocal done
        done += number
        notice(Progress(order.site.name, done, of))

    with gate.lag.noticed() as late:
        async with record(gate, targets) as capture, engine(gate) as swift:
            told = await asyncio.gather(
                *(
                    Asking(gate, swift, late, target, order.vantage, caller, more, order.site.present is not None).run(
                        questions[target], swept[target]
                    )
                    for target in targets
                )
            )
    async with gate.alone():
        result = _judged(order, targets, (started, gate.now()), told, capture, known or classify.built_in(), late)
    if second_opinion:
        pairs = list(zip(targets, result.scan.hosts, strict=True))
        opinion = await second.second_opinion(gate, pairs)
        weighed = second.weighed(result.scan.model_copy(update={"second_opinion": opinion}))
        result = replace(result, scan=weighed)
    return result


def _judged(
    order: scope.Order,
    targets: Sequence[Target],
    times: tuple[datetime, datetime],
    told: Sequence[list[Told]],
    capture: Capture | None,
    known: classify.Known,
    late: Lateness,
) -> Result:
    started, finished = times
    wire = capture is not None and capture.complete
    entries = capture.entries if capture and wire else rebuild(row.exchange for rows in told for row in rows)
    asked = _kept(targets, told, capture, entries)
    hosts = tuple(host_of(str(target), target.names, asked[target], order.site, known) for target in targets)
    scan = Scan(
        scanner=_scanner(started),
        id=f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}",
        started=started,
        finished=finished,
        site=order.site,
        authorization=order.authorization,
        partner=order.partner,
        vantage=order.vantage,
        hosts=hosts,
        packs=packs_of(hosts, known),
        evidence=tuple(one.evidence for group in asked.values() for one in group),
        capture="wire" if wire else "transcript",
        lag_ms=round(late.worst * 1000, 1),
        **judge(hosts, order.site, order.vantage, started),
    )
    keys = dict.fromkeys(line for rows in told for row in rows for line in row.exchange.keys)
    return Result(scan, HEADER + b"".join(entries), "".join(f"{line}\n" for line in keys))


def _kept(
    targets: Sequence[Target], told: Sequence[list[Told]], capture: Capture | None, entries: Sequence[bytes]
) -> dict[Target, list[Asked]]:
    """What was asked, with its evidence, numbered through the scan; each piece with its frames in the capture."""
    seen = {} if capture is None else capture.syn_acks()
    kept: dict[Target, list[Asked]] = {}
    number = 0
    for target, rows in zip(targets, told, strict=True):
        kept[target] = []
        for row in rows:
            number += 1
            proof: Evidence = row.exchange.evidence(
                f"e{number}",
                str(target),
                row.token,
                row.purpose,
                seen.get((target.address, row.exchange.question.port, _first_local_port(row))),
            )
            kept[target].append(Asked(row.exchange, proof))
    proofs = [one.evidence for group in kept.values() for one in group]
    frames = Frames(sketched_flows(entries, hosts_of(proofs)), proofs)
    return {
        target: [
            Asked(one.exchange, one.evidence.model_copy(update={"frames": frames_text(frames, one.evidence)}))
            for one in group
        ]
        for target, group in kept.items()
    }


def frames_text(frames: Frames[Flow] | Frames[Sketch], proof: Evidence) -> str:
    """The frames of a piece of evidence as it keeps them; of a wide sweep's group the first and the last."""
    ports = read_ports(proof.ports) if proof.ports else ()
    found = sorted({number for flow in frames.flows(proof, ports) for number in flow.frames})
    if proof.purpose == "sweep" and found:
        return ranges_text([found[0]]) if len(found) == 1 else f"{found[0]}-{found[-1]}"
    return ranges_text(found)


def _first_local_port(row: Told) -> int:
    for event in row.exchange.events:
        if event.what == "connected":
            return int(event.detail.split(" ")[0].rpartition("|")[2])
    return 0


async def scan_sites(
    orders: Sequence[scope.Order],
    *,
    at_once: int = 8,
    known: classify.Known | None = None,
    notice: Notice = lambda _: None,
) -> AsyncIterator[tuple[scope.Order, Result | Exception]]:
    """Scan many sites, `at_once` of them at a time, and yield each as it ends.

    One site's failure never stops the others: it is yielded in place of the result.
    """
    places = asyncio.Semaphore(at_once)

    async def one(order: scope.Order) -> tuple[scope.Order, Result | Exception]:
        async with places:
            try:
                return order, await scan_site(order, known=known, notice=notice)
            except Exception as error:  # the one spot where a site's failure becomes a value
                log.debug("site %s failed", order.site.name, exc_info=error)
                return order, error

    tasks = [asyncio.create_task(one(order)) for order in orders]
    try:
        for task in asyncio.as_completed(tasks):
            yield await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def rederive(scan: Scan, newer: Iterable[Pack] = ()) -> Scan:
    """The scan as it comes out of its own evidence, offline, by today's rules and by the packs that it keeps.

    Args:
        scan: the saved scan.
        newer: more packs, which take the place of kept ones of the same name.

    Raises:
        ReplayError: a record does not fit its conversation.
        ValueError: the evidence is damaged, or of another address than the scan's hosts.
        Problem: a pack that the scan keeps is none.
    """
    return derive.rederive(scan, _caller(scan.scanner.version, scan.partner), newer)


def _scanner(started: datetime) -> Scanner:
    local = started.astimezone()
    offset = local.utcoffset()
    minutes = None if offset is None else round(offset.total_seconds() / 60)
    return Scanner(version=__version__, zone=local.tzname(), utc_offset=minutes, rules=rules.digest())


def _caller(version: str, partner: Mapping[str, str]) -> Caller:
    return Caller(f"exposure-scan/{version}", partner.get("mail") or _NO_CONTACT)
