"""From answers to a judged host. A scan on the wire and one derived again from its evidence end here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from exposure_scan import assess, classify, plan
from exposure_scan.conversation import Exchange
from exposure_scan.model import (
    Alive,
    Dark,
    Echo,
    Evidence,
    Hop,
    Host,
    Pack,
    Path,
    Port,
    PortState,
    Question,
    RouterError,
    Site,
    Swept,
    Vantage,
)
from exposure_scan.protocols.tls import certificate_notes
from exposure_scan.transport import read_icmp

from .knocks import PROBE, Knocks, sweep_of, swept_of

ORDINARY_MISS = 0.0975  # share of tries that come to nothing at 5 % loss each way
SURE = 0.001  # a silence counts when a mere miss is less likely than this
FIRST_HOP_PORT = 33434  # traceroute's: the port less this, plus one, is the packet's time to live
HELPER = frozenset({"tcp/5060", "tcp/2000"})  # SIP and SCCP, where firewalls put their VoIP helpers
_CROWD = 8  # open ports without a word that are more than one host has, where they are most of those asked
SILENCES = frozenset({PortState.FILTERED, PortState.OPEN_FILTERED})

# The strongest word first: an answer beats a refusal, a refusal beats silence.
_RANKS = (PortState.OPEN, PortState.CLOSED, PortState.FILTERED, PortState.OPEN_FILTERED, PortState.UNMEASURED)


@dataclass(frozen=True, slots=True)
class Asked:
    """One exchange with the evidence that keeps it."""

    exchange: Exchange
    evidence: Evidence

    @property
    def silent(self) -> bool:
        """Nobody said anything, neither the host nor a router."""
        return is_silent(self.exchange)

    @property
    def answered(self) -> bool:
        """The address itself said something."""
        return self.exchange.by == self.evidence.address


def is_silent(exchange: Exchange) -> bool:
    """Nobody said anything about the question, although it was asked."""
    if exchange.question.transport == "icmp":
        return exchange.state is Echo.SILENT
    return exchange.state in SILENCES and exchange.by is None


def is_wordless(exchange: Exchange) -> bool:
    """A TCP port that took the connection and said nothing."""
    seen = exchange.observation
    is_open = exchange.question.transport == "tcp" and exchange.state is PortState.OPEN
    return is_open and not (seen.answered or seen.valid)


def loss_of(exchanges: Iterable[Exchange]) -> tuple[float | None, int]:
    """The share of tries that came to nothing among questions answered in the end, and how many tries that is.

    Only what the address itself answered counts: a router's word, and silence, tell nothing of loss.
    """
    tries = [exchange.tries for exchange in exchanges if exchange.by and exchange.tries]
    total = sum(tries)
    return ((total - len(tries)) / total, total) if total else (None, 0)


def miss_of(loss: float | None, samples: int) -> float:
    """How likely one try comes to nothing on this path; never taken for less than on an ordinary line.

    Few samples may have been lucky: two lost tries and two others are added (Agresti and Coull, 1998).
    """
    return max(ORDINARY_MISS, (loss * samples + 2) / (samples + 4)) if loss is not None else ORDINARY_MISS


def judge(hosts: Sequence[Host], site: Site, vantage: Vantage, on: datetime) -> dict[str, object]:
    """Findings, verdict, reasons and declarations: all that follows from the hosts."""
    findings = tuple(finding for host in hosts for finding in assess.assess_host(host, site, on))
    verdict, because = assess.verdict(hosts, findings, site, vantage, on)
    return {
        "findings": findings,
        "verdict": verdict,
        "because": because,
        "declarations": assess.declarations(findings),
    }


def host_of(
    address: str, names: tuple[str, ...], asked: Sequence[Asked], site: Site, known: classify.Known | None = None
) -> Host:
    """One host from everything that was asked of it; `known` are the fingerprints, by default the scanner's own."""
    plain = [one for one in asked if one.evidence.purpose in ("ask", "again")]
    knocked = [(one.exchange, one.evidence.id) for one in asked if isinstance(one.exchange, Knocks)]
    echoes = [one for one in plain if one.exchange.question.transport == "icmp"]
    measured = (one for one in asked if one.evidence.purpose not in ("path", "sweep") and one.answered)
    loss, samples = loss_of(one.exchange for one in measured)
    groups: dict[str, list[Asked]] = {}
    for one in plain:
        if one.exchange.question.transport != "icmp":
            groups.setdefault(str(one.exchange.question), []).append(one)
    found = _found(asked, groups)
    swept = swept_of(knocked, found, miss_of(loss, samples))
    best = {key: min(group, key=_rank) for key, group in groups.items()}
    middlebox, blurred = _middlebox(best, found, swept, pinged=any(one.answered for one in echoes))
    notes = _differing_handshakes(best) | _only_knocked(best)
    ports = tuple(
        classify.classify_port(_port(best[key], group, miss_of(loss, samples), notes.get(key, ())), known)
        for key, group in groups.items()
    )
    device, also = classify.classify_host(ports, site, known)
    echo = min(echoes, key=lambda one: list(Echo).index(Echo(one.exchange.state)), default=None)
    return Host(
        address=address,
        names=names,
        alive=_alive([one for one in asked if one.answered], blurred),
        echo=Echo(echo.exchange.state) if echo else Echo.UNMEASURED,
        echo_evidence=tuple(one.evidence.id for one in echoes),
        device=device,
        also=also,
        ports=ports,
        swept=swept,
        sweep=sweep_of([group for group, _ in knocked], found, _looks(asked)),
        path=Path(
            loss=None if loss is None else round(loss, 4),
            samples=samples,
            middlebox=middlebox,
            blurred=blurred,
            errors=_router_errors(asked, address),
            last_hop=_last_hop(asked, address),
            dark=_dark(asked),
        ),
    )


def packs_of(hosts: Iterable[Host], known: classify.Known) -> tuple[Pack, ...]:
    """The packs that spoke of these hosts, by name."""
    devices = (device for host in hosts for device in (host.device, *host.also, *(port.device for port in host.ports)))
    named = {support.pack for device in devices if device for support in (*device.support, *device.against)}
    return tuple(known.packs[name] for name in sorted(filter(None, named)))


def _found(asked: Iterable[Asked], groups: Mapping[str, list[Asked]]) -> dict[int, datetime]:
    """The ports that the sweep found open and that were then asked, with the time. Each gets its knock as an answer."""
    found: dict[int, datetime] = {}
    for one in asked:
        if isinstance(one.exchange, Knocks) and one.exchange.state is PortState.OPEN:
            for port in one.exchange.ports:
                if group := groups.get(f"tcp/{port}"):
                    found[port] = group[0].exchange.at
                    group.append(Asked(one.exchange.only(port), one.evidence))
    return found


def _only_knocked(best: Mapping[str, Asked]) -> dict[str, tuple[str, ...]]:
    """Notes on ports that took the sweep's connection and no later one."""
    note = "It took the connection of the sweep, and none after it."
    return {key: (note,) for key, one in best.items() if one.exchange.question.probe == PROBE}


def _looks(asked: Iterable[Asked]) -> list[datetime]:
    return [one.exchange.at for one in asked if one.evidence.purpose == "still-there"]


def _rank(one: Asked) -> tuple[int, bool, bool]:
    seen = one.exchange.observation
    rank = _RANKS.index(PortState(one.exchange.state))
    if one.exchange.reason.startswith("answered-from-another"):  # somebody spoke: no silence settles that
        rank = _RANKS.index(PortState.FILTERED)
    return (rank, one.exchange.by is None, not (seen.valid or seen.answered))


def _port(best: Asked, group: Sequence[Asked], miss: float, notes: tuple[str, ...]) -> Port:
    exchange, seen = best.exchange, best.exchange.observation
    state, reason = PortState(exchange.state), exchange.reason
    tries = sum(one.exchange.tries for one in group)
    confidence: float | None = 1.0
    if best.silent:
        missed = miss**tries
        confidence = round(1 - missed, 6)
        if missed > SURE:
            state, reason = PortState.UNMEASURED, "too-few-tries"
    if state is PortState.UNMEASURED:
        confidence = None
    about_tls = certificate_notes(seen.tls, exchange.at) if seen.tls is not None else ()
    return Port(
        transport="tcp" if exchange.question.transport == "tcp" else "udp",
        port=exchange.question.port,
        state=state,
        reason=reason,
        confidence=confidence,
        by=exchange.by,
        tries=tries,
        rtt_ms=None if exchange.rtt_ms is None else round(exchange.rtt_ms, 3),
        service=seen.service,
        tls=seen.tls,
        banner=seen.banner,
        said=dict(seen.said),
        notes=(*seen.notes, *about_tls, *notes),
        evidence=tuple(one.evidence.id for one in group),
    )


# --- what the way does ----------------------------------------------------------------------------


def _middlebox(
    best: Mapping[str, Asked], found: Collection[int], swept: Iterable[Swept], *, pinged: bool
) -> tuple[str | None, tuple[str, ...]]:
    """Something on the way that completes handshakes, and the ports whose handshake may be its own.

    `found` are ports that a sweep found open: a crowd among them shows nothing, but their number may.
    """
    wordless = tuple(key for key, one in best.items() if is_wordless(one.exchange))
    its_own = {f"tcp/{port}" for port in found}
    planned = {key: one for key, one in best.items() if key not in its_own}
    asked = sum(one.exchange.question.transport == "tcp" for one in planned.values())
    mute = sum(key in planned for key in wordless)
    count = f"{mute} of {asked} TCP ports accept a connection and say nothing."
    measured = [group for group in swept if group.state is not PortState.UNMEASURED]
    beyond = sum(group.number for group in measured if group.state is PortState.OPEN)
    if beyond:
        of = asked + len(found) + sum(group.number for group in measured)
        count = f"{mute + len(found) + beyond} of {of} TCP ports accept a connection."
    if str(plan.CANARY) in wordless:
        return f"The handshake is completed even on {plan.CANARY}, which nobody serves; {count}", wordless
    # No host serves so many and speaks on none.
    if beyond or (mute >= _CROWD and 2 * mute > asked):
        return f"Something on the way completes handshakes for everybody: {count}", wordless
    helped = tuple(key for key in wordless if key in HELPER)
    if set(helped) == HELPER:
        return "A VoIP helper on the way completes handshakes on tcp/5060 and tcp/2000, whoever is behind it.", helped
    if helped and not any(one.answered for key, one in best.items() if key not in helped) and not pinged:
        said = f"Nothing answers but a handshake on {helped[0]}, which a firewall's VoIP helper makes for anybody."
        return said, helped
    return None, ()


def one_helped(wordless: Collection[str]) -> bool:
    """One of the two ports of a VoIP helper shows it and the other does not: worth asking again."""
    return len(HELPER.intersection(wordless)) == 1


def _differing_handshakes(best: Mapping[str, Asked]) -> dict[str, tuple[str, ...]]:
    """Notes on open ports whose SYN-ACK differs from most others': perhaps not the same machine answers."""
    seen = {key: (one.evidence.ttl, one.evidence.window) for key, one in best.items() if one.evidence.ttl is not None}
    if len(set(seen.values())) < 2:
        return {}
    (ttl, window), _ = Counter(seen.values()).most_common(1)[0]
    notes: dict[str, tuple[str, ...]] = {}
    for key, (own_ttl, own_window) in seen.items():
        if own_ttl != ttl:
            most = f"those of most other ports with {ttl}: another machine may answer here."
            notes[key] = (f"Its SYN-ACK came with TTL {own_ttl}, {most}",)
        elif own_window != window:
            notes[key] = (f"Its SYN-ACK offered a window of {own_window}, those of most other ports {window}.",)
    return notes


def _router_errors(asked: Iterable[Asked], address: str) -> tuple[RouterError, ...]:
    """The ICMP errors that others than the address sent, path probes' time-exceeded left out."""
    found = Counter(
        (str(error.offender), error.type, error.code, error.reason)
        for one in asked
        for event in one.exchange.events
        if event.what == "icmp"
        and str((error := read_icmp(event.detail)).offender) != address
        and not (one.evidence.purpose == "path" and error.reason == "icmp-time-exceeded")
    )
    return tuple(
        RouterError(by=by, type=type_, code=code, reason=reason, times=times)
        for (by, type_, code, reason), times in sorted(found.items(), key=lambda item: (-item[1], item[0]))
    )


def _last_hop(asked: Iterable[Asked], address: str) -> Hop | None:
    """The farthest router that a packet of limited life found, or that spoke of the host."""
    hops = [
        Hop(
            ttl=one.exchange.question.port - FIRST_HOP_PORT + 1,
            address=one.exchange.by,
            reason=one.exchange.reason,
            evidence=(one.evidence.id,),
        )
        for one in asked
        if one.evidence.purpose == "path" and one.exchange.by not in (None, address)
        if one.exchange.by is not None
    ]
    if not hops:
        return None
    said = [hop for hop in hops if hop.reason != "icmp-time-exceeded"]
    return min(said, key=lambda hop: hop.ttl) if said else max(hops, key=lambda hop: hop.ttl)


def _dark(asked: Sequence[Asked]) -> Dark | None:
    """The port that answered first and was silent at the last look, however often it was asked then."""
    looks = [one for one in asked if one.evidence.purpose == "still-there"]
    last: list[Asked] = []
    for one in sorted(looks, key=lambda one: one.exchange.at):  # a wide sweep looks in the middle, too
        last = [*last, one] if one.silent else []
    if not last:
        return None
    question = last[-1].exchange.question
    last = [one for one in last if str(one.exchange.question) == str(question)]
    earlier = [one for one in asked if one.answered and _is_about(one.exchange, question)]
    if not earlier:
        return None
    return Dark(
        port=str(question),
        answered=max(one.exchange.at for one in earlier),
        silent=last[-1].exchange.at,
        evidence=tuple(one.evidence.id for one in (*last, *earlier)),
    )


def _is_about(exchange: Exchange, question: Question) -> bool:
    if isinstance(exchange, Knocks):
        return question.transport == "tcp" and question.port in exchange.ports
    return str(exchange.question) == str(question)


# --- alive ----------------------------------------------------------------------------------------

# What proves that the host itself is there, the strongest first.
_PROOFS: Mapping[str, str] = MappingProxyType(
    {
        "echo-reply": "it answered ping",
        "udp-reply": "{0} answered",
        "icmp-port-unreachable": "it said itself that {0} is closed (ICMP)",
        "syn-ack": "{0} accepted a connection",
        "rst": "{0} refused a connection",
    }
)


def _alive(answered: Iterable[Asked], blurred: tuple[str, ...]) -> Alive:
    """Proof by what only the host can have sent; a handshake that a middlebox may have made is none."""
    proofs: list[tuple[int, str, str]] = []
    for one in answered:
        exchange = one.exchange
        if exchange.reason not in _PROOFS:
            continue
        spoke = exchange.observation.valid or exchange.observation.answered
        name, doubted = str(exchange.question), exchange.reason == "rst"
        if isinstance(exchange, Knocks):
            name, doubted = f"tcp/{exchange.ports[0]}", True
        if not spoke and (name in blurred or (blurred and doubted)):
            continue
        rank = -1 if spoke else list(_PROOFS).index(exchange.reason)
        words = "{0} answered in words" if spoke and exchange.reason == "syn-ack" else _PROOFS[exchange.reason]
        proofs.append((rank, words.format(name), one.evidence.id))
    if not proofs:
        return Alive(proven=False, by="nothing that only this address can have sent came back")
    _, words, evidence = min(proofs)
    return Alive(proven=True, by=words, evidence=(evidence,))
