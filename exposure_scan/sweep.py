"""Joins the stages, for one site or a thousand: from what a person ordered to a scan that is judged.

The only module that knows all stages. One site is the case n = 1 of many, and a scan that is
re-derived offline goes through the same lines as one that was made on the wire.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path as FilePath
from types import MappingProxyType

from . import __version__, assess, classify, evidence, plan, protocols, report, scope
from .conversation import Caller, Event, Exchange, Observation, ReplayError, events_of, replay
from .model import (
    Alive,
    Echo,
    Evidence,
    Host,
    Path,
    Port,
    PortState,
    Problem,
    Question,
    Scan,
    Scanner,
    Site,
    Target,
    Vantage,
)
from .transport import Gate, converse, record

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
    """A finished scan and, where the privilege allowed one, the capture of its packets (pcap bytes)."""

    scan: Scan
    capture: bytes | None


Notice = Callable[[Progress], None]


def now() -> datetime:
    """The time of day, aware, UTC."""
    return datetime.now(UTC)


# --- scanning ------------------------------------------------------------------------------------


async def scan_site(
    order: scope.Order,
    *,
    ports: str | tuple[str, ...] = "default",
    notice: Notice = lambda _: None,
    clock: Callable[[], datetime] = now,
) -> Result:
    """Scan one site and judge it.

    Raises:
        Problem: no live authorization, or a target that may not be asked; nothing was sent.
    """
    targets = await scope.resolve(order, clock=clock)
    gate = Gate(clock=clock)
    for target in targets:
        gate.admit(target)
    started = clock()
    caller = _caller(__version__, order.partner)
    asked = [(target, question) for target in targets for question in plan.questions(target, order.site, ports)]
    done = 0
    notice(Progress(order.site.name, done, len(asked)))

    async def ask(target: Target, question: Question) -> tuple[str, Exchange]:
        nonlocal done
        token = secrets.token_hex(8)
        exchange = await _ask(gate, target, question, token, caller, clock)
        done += 1
        notice(Progress(order.site.name, done, len(asked)))
        return token, exchange

    async with record(gate, targets) as capture:
        answers = await asyncio.gather(*(ask(target, question) for target, question in asked))

    kept: dict[str, list[_Answer]] = {str(target): [] for target in targets}
    for number, ((target, _), (token, exchange)) in enumerate(zip(asked, answers, strict=True), 1):
        proof = exchange.evidence(f"e{number}", str(target), token)
        kept[str(target)].append(_Answer(exchange, proof))
    hosts = tuple(_host(str(target), target.names, kept[str(target)], order.site) for target in targets)
    scan = Scan(
        scanner=Scanner(version=__version__),
        id=f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}",
        started=started,
        finished=clock(),
        site=order.site,
        authorization=order.authorization,
        partner=order.partner,
        vantage=order.vantage,
        hosts=hosts,
        evidence=tuple(answer.evidence for answers in kept.values() for answer in answers),
        capture="none" if capture is None else "wire",
        **_judge(hosts, order.site, order.vantage, started),
    )
    return Result(scan, None if capture is None else capture.pcap())


async def scan_sites(
    orders: Sequence[scope.Order], *, at_once: int = 8, notice: Notice = lambda _: None
) -> AsyncIterator[tuple[scope.Order, Result | Exception]]:
    """Scan many sites, `at_once` of them at a time, and yield each as it ends.

    One site's failure never stops the others: it is yielded in place of the result.
    """
    places = asyncio.Semaphore(at_once)

    async def one(order: scope.Order) -> tuple[scope.Order, Result | Exception]:
        async with places:
            try:
                return order, await scan_site(order, notice=notice)
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


async def _ask(
    gate: Gate,
    target: Target,
    question: Question,
    token: str,
    caller: Caller,
    clock: Callable[[], datetime],
) -> Exchange:
    """Ask one question. A fault of ours makes that port unmeasured and nothing else."""
    at = clock()
    try:
        return await converse(gate, target, question, protocols.conversation(question.probe, token, caller))
    except Problem:
        raise
    except Exception as error:  # the one spot where a fault of ours becomes a port's state
        log.exception("%s %s: a fault in exposure-scan; the port is reported as unmeasured", target, question)
        state = Echo.UNMEASURED if question.transport == "icmp" else PortState.UNMEASURED
        reason = f"our-error: {type(error).__name__}"
        return Exchange(question, state, reason, None, 0, None, Observation(), at, ())


def _caller(version: str, partner: Mapping[str, str]) -> Caller:
    return Caller(f"exposure-scan/{version}", partner.get("mail") or _NO_CONTACT)


# --- from answers to a judged host ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answer:
    """An exchange with the evidence that keeps it."""

    exchange: Exchange
    evidence: Evidence


def _judge(hosts: Sequence[Host], site: Site, vantage: Vantage, on: datetime) -> dict[str, object]:
    """Findings, verdict, reasons and declarations: all that follows from the hosts."""
    findings = tuple(finding for host in hosts for finding in assess.assess_host(host, site, on))
    verdict, because = assess.verdict(hosts, findings, site, vantage)
    return {
        "findings": findings,
        "verdict": verdict,
        "because": because,
        "declarations": assess.declarations(findings),
    }


def _host(address: str, names: tuple[str, ...], answers: Iterable[_Answer], site: Site) -> Host:
    """One host from everything that was asked of it."""
    answers = list(answers)
    echo = next((answer for answer in answers if answer.exchange.question.transport == "icmp"), None)
    rest = [answer for answer in answers if answer.exchange.question.transport != "icmp"]
    ports = tuple(classify.classify_port(_port(answer)) for answer in rest)
    device, also = classify.classify_host(ports, site)
    middlebox = _middlebox(answers)
    return Host(
        address=address,
        names=names,
        alive=_alive(address, answers, middlebox is not None),
        echo=Echo(echo.exchange.state) if echo else Echo.UNMEASURED,
        echo_evidence=(echo.evidence.id,) if echo else (),
        device=device,
        also=also,
        ports=ports,
        path=Path(loss=_loss(answers), middlebox=middlebox),
    )


def _port(answer: _Answer) -> Port:
    exchange, seen = answer.exchange, answer.exchange.observation
    return Port(
        transport="tcp" if exchange.question.transport == "tcp" else "udp",
        port=exchange.question.port,
        state=PortState(exchange.state),
        reason=exchange.reason,
        by=exchange.by,
        tries=exchange.tries,
        rtt_ms=None if exchange.rtt_ms is None else round(exchange.rtt_ms, 3),
        service=seen.service,
        tls=seen.tls,
        banner=seen.banner,
        said=dict(seen.said),
        notes=seen.notes,
        evidence=(answer.evidence.id,),
    )


def _middlebox(answers: Iterable[_Answer]) -> str | None:
    """Something on the way answers for ports that nobody serves: the canary is open."""
    for answer in answers:
        exchange = answer.exchange
        if exchange.question == plan.CANARY and exchange.state is PortState.OPEN:
            return f"the handshake is completed even on {exchange.question}, which nobody serves"
    return None


# What proves that the host itself is there, the strongest first. Handshakes prove nothing where a
# middlebox completes them for everybody.
_PROOFS: Mapping[str, str] = MappingProxyType(
    {
        "echo-reply": "it answered ping",
        "udp-reply": "{0} answered",
        "icmp-port-unreachable": "it said itself that {0} is closed (ICMP)",
        "syn-ack": "{0} accepted a connection",
        "rst": "{0} refused a connection",
    }
)
_HANDSHAKES = frozenset({"syn-ack", "rst"})


def _alive(address: str, answers: Iterable[_Answer], middlebox: bool) -> Alive:
    proofs: list[tuple[int, str, str]] = []
    for answer in answers:
        exchange = answer.exchange
        if exchange.by != address or exchange.reason not in _PROOFS:
            continue
        spoke = exchange.observation.valid or exchange.observation.answered
        if middlebox and exchange.reason in _HANDSHAKES and not spoke:
            continue
        rank = -1 if spoke else list(_PROOFS).index(exchange.reason)
        words = "{0} answered in words" if spoke and exchange.reason == "syn-ack" else _PROOFS[exchange.reason]
        proofs.append((rank, words.format(exchange.question), answer.evidence.id))
    if not proofs:
        return Alive(proven=False, by="nothing that only this address can have sent came back")
    _, words, evidence = min(proofs)
    return Alive(proven=True, by=words, evidence=(evidence,))


def _loss(answers: Iterable[_Answer]) -> float | None:
    """The share of tries that stayed unanswered among questions that were answered in the end."""
    tries = [answer.exchange.tries for answer in answers if answer.exchange.by and answer.exchange.tries]
    return round(sum(count - 1 for count in tries) / sum(tries), 4) if tries else None


# --- what people read ----------------------------------------------------------------------------


def render(scan: Scan, format_: str) -> str:
    """The scan in one of `report.FORMATS`."""
    return report.render(scan, format_, practices=_practice_texts())


def render_index(scans: Sequence[tuple[str, Scan]]) -> str:
    """The page that links the reports of several sites, each in the folder of the given name."""
    return report.render_index(scans)


def write_site(folder: FilePath, result: Result) -> None:
    """Write one site's folder: scan.json, report.html and evidence.zip, each whole or not at all."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    document = result.scan.to_json()
    evidence.write_file(folder / evidence.SCAN, document)
    evidence.write_file(folder / "report.html", render(result.scan, "html"))
    evidence.write_bundle(folder / "evidence.zip", document, result.capture)


def _practice_texts() -> tuple[report.PracticeText, ...]:
    return tuple(
        report.PracticeText(
            id=practice.id,
            title=practice.title,
            why=practice.why,
            part=practice.part,
            menu_path=practice.menu_path,
            known=practice.known,
        )
        for practice in assess.practices()
    )


# --- the same findings once more, offline --------------------------------------------------------


def rederive(scan: Scan) -> Scan:
    """The scan as it comes out of its own evidence, through the same conversations and rules.

    Raises:
        ReplayError: a record does not fit its conversation.
        ValueError: the evidence is damaged, or names a port that the scan does not have.
    """
    caller = _caller(scan.scanner.version, scan.partner)
    answers: dict[str, list[_Answer]] = {host.address: [] for host in scan.hosts}
    seen = {host.address: {port.key: port for port in host.ports} for host in scan.hosts}
    echoes = {host.address: host.echo for host in scan.hosts}
    for proof in scan.evidence:
        if proof.address not in answers:
            raise ValueError(f"evidence {proof.id} is of {proof.address}, which is no host of this scan")
        port = seen[proof.address].get(f"{proof.kind}/{proof.port}")
        if proof.kind != "icmp" and port is None:
            raise ValueError(f"evidence {proof.id} is of {proof.kind}/{proof.port}, which the scan does not list")
        exchange = _repeat(proof, port, echoes[proof.address], caller)
        answers[proof.address].append(_Answer(exchange, proof))
    hosts = tuple(_host(host.address, host.names, answers[host.address], scan.site) for host in scan.hosts)
    return scan.model_copy(update={"hosts": hosts, **_judge(hosts, scan.site, scan.vantage, scan.started)})


def _repeat(proof: Evidence, port: Port | None, echo: Echo, caller: Caller) -> Exchange:
    events = events_of(proof)
    question = Question(proof.kind, proof.port, proof.probe)
    if question.transport == "tcp" and question.port == plan.CANARY.port:
        question = plan.CANARY
    if not events:  # a fault of ours, or a port that could not be asked: nothing to repeat
        observation = Observation()
    else:
        try:
            observation = replay(
                protocols.conversation(proof.probe, proof.token, caller), events, datagrams=proof.kind != "tcp"
            )
        except KeyError:
            raise ReplayError(f"evidence {proof.id}: there is no probe {proof.probe!r}") from None
    if port is None:
        told, reason = _echo_state(events, observation, echo)
        by = proof.address if told is Echo.REPLIED else None
        return Exchange(question, told, reason, by, 1, None, observation, proof.at, tuple(events))
    state, reason, by = _port_state(events, observation, port, proof.address)
    return Exchange(question, state, reason, by, port.tries, port.rtt_ms, observation, proof.at, tuple(events))


def _echo_state(events: Sequence[Event], observation: Observation, echo: Echo) -> tuple[Echo, str]:
    if observation.valid:
        return Echo.REPLIED, "echo-reply"
    if not events and echo is Echo.REPLIED:
        return Echo.REPLIED, "echo-reply"  # the system's ping tells no bytes
    return (Echo.SILENT, "no-response") if events else (Echo.UNMEASURED, "")


def _port_state(
    events: Sequence[Event], observation: Observation, port: Port, address: str
) -> tuple[PortState, str, str | None]:
    """The state that the record shows; where it shows none, what was written down."""
    first = next((event for event in events if event.what in ("connected", "not-connected")), None)
    if port.transport == "tcp" and first is not None and first.what == "connected":
        return PortState.OPEN, "syn-ack", address
    if port.transport == "udp" and (observation.answered or observation.valid):
        return PortState.OPEN, "udp-reply", address
    if port.state is PortState.OPEN:
        return PortState.UNMEASURED, "the record shows no answer", None
    return port.state, port.reason, port.by


def differences(scan: Scan, derived: Scan) -> list[str]:
    """What the saved scan says otherwise than its evidence, one sentence each; empty when they agree."""
    found = []
    if scan.verdict != derived.verdict:
        found.append(f"The verdict is saved as {scan.verdict}; the evidence gives {derived.verdict}.")
    for saved, made in zip(scan.hosts, derived.hosts, strict=True):
        found += _host_differences(saved, made)
    fresh = {(finding.practice, finding.host): finding for finding in derived.findings}
    for finding in scan.findings:
        other = fresh.pop((finding.practice, finding.host), None)
        if other is None:
            found.append(f"{finding.practice} on {finding.host} is saved; the rules have no such practice.")
        elif other.status != finding.status:
            found.append(f"{finding.practice} on {finding.host} is saved as {finding.status}, not {other.status}.")
        elif other != finding:
            found.append(f"{finding.practice} on {finding.host} is worded otherwise than the evidence gives.")
    found += [f"{practice} on {host} is missing from the saved scan." for practice, host in fresh]
    if not found and scan != derived:
        found.append("The reasons or the declarations are saved otherwise than the evidence gives.")
    return found


def _host_differences(saved: Host, made: Host) -> list[str]:
    found = []
    if saved.device.class_ != made.device.class_:
        found.append(f"{saved.address} is saved as {saved.device.class_}, not {made.device.class_}.")
    ports = {port.key: port for port in made.ports}
    for port in saved.ports:
        other = ports.pop(port.key, None)
        if other is None:
            found.append(f"{saved.address} {port.key} is saved without evidence.")
        elif other != port:
            found.append(f"{saved.address} {port.key} is saved otherwise than its evidence gives.")
    if not found and saved != made:
        found.append(f"{saved.address} is saved otherwise than its evidence gives.")
    return found
