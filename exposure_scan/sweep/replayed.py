"""A scan out of a capture that somebody else made: what others asked the host, and what it answered. Nothing is sent.

Only what others began counts: a call that the host made itself shows nothing that can be reached. A silence counts
by the tries that a sign of life came after; what nobody asked is not measured.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import BinaryIO, Literal, Unpack

from exposure_scan import __version__, classify, plan, scope
from exposure_scan.conversation import Exchange, Observation
from exposure_scan.model import (
    Address,
    Echo,
    Origin,
    PortState,
    Problem,
    Question,
    Scan,
    Scanner,
    Site,
    Vantage,
)
from exposure_scan.model.ranges import ranges_text
from exposure_scan.model.text import quoted, within
from exposure_scan.protocols.overheard import begun_by_host
from exposure_scan.transport import Flow, Packet, read_flows, read_packets
from exposure_scan.transport.journal import RST, Answer

from . import rules
from .hosts import Asked, host_of, judge, packs_of
from .knocks import WENT_DARK, Knocks, knocks
from .overhearing import (
    NOT_IN_THE_CAPTURE,
    Heard,
    exchange,
    heard,
    is_of_the_way,
    kept,
    question_of,
    rtt_of,
    silence,
    tries_of,
)
from .scanning import Result

_MOST_OF_A_PORT = 8  # pieces of evidence
_MOST_IN_ALL = 4096
_MOST_SINGLE = 1024  # ports told one by one, those of the plan among them
_CROWD = 32  # TCP ports beside the plan without an open one, from which on they are told together
_MOST_BYTES = 64 * 1024 * 1024  # of a capture that goes into the evidence
_RAW = 101  # LINKTYPE_RAW
_LAST_MOMENT = 4102444800.0  # the year 2100: a stamp beyond it is none
_MOST_NAMED = 10
_TELLING = (PortState.OPEN, PortState.CLOSED, PortState.FILTERED, PortState.OPEN_FILTERED, PortState.UNMEASURED)

# RFC 1918, 6598, 3927, 1122; RFC 4193, 4291. Documentation and benchmark networks stand for public ones.
_PRIVATE: tuple[IPv4Network | IPv6Network, ...] = tuple(
    ip_network(network)
    for network in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8",
        "fc00::/7", "fe80::/10", "::1/128",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Replayed:
    """The judged scan with its capture where that can be kept, and what is left to say, one sentence each."""

    result: Result
    notes: tuple[str, ...]


def replayed(
    file: Path, addresses: Sequence[str], *, known: classify.Known | None = None, **words: Unpack[scope.Words]
) -> Replayed:
    """Judge what a capture (pcap, pcapng) shows of the hosts at `addresses`.

    Args:
        file: the capture.
        addresses: of one site.
        known: the fingerprints to go by, by default the scanner's own.
        words: what the operator says of the site, as typed.

    Raises:
        Problem: the file is no capture, an address has no packet in it, or a word of the operator's is wrong.
    """
    name = within(file.name, 200)
    hosts = tuple(dict.fromkeys(map(_address, addresses)))
    told = {**words, "internal": True}  # nothing is sent, so any address may be looked at
    by = f"nobody: nothing was sent; read from {name}"
    order = scope.order_from_words([*map(str, hosts)], authorized_by=by, **told)  # type: ignore[arg-type]
    try:
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
            opened.seek(0)
            tape = _Tape(hosts)
            packets = read_packets(opened, name)
            flows = read_flows(tape.pass_on(packets), hosts)
            _all_there(opened, name, hosts, tape)
            opened.seek(0)
            capture = _keepable(opened)
    except OSError as error:
        raise Problem(f"{name} cannot be read ({error.strerror}); give a capture, as tcpdump -w writes it.") from None
    except ValueError as error:
        raise Problem(f"{error}. Give a capture, as tcpdump -w writes it (pcap or pcapng).") from None
    notes: list[str] = []
    if packets.truncated:
        notes.append(f"{name} ends in the middle of a packet; what came after it is not known.")
    asked_of, outside = _asked(flows, notes)
    started, finished = _moment(tape.first), _moment(tape.last)
    vantage = Vantage(name=f"where {name} was captured (not known)", checked=False, outside=outside)
    asked: dict[Address, list[Asked]] = {}
    for host in hosts:
        found = _Found(host, asked_of.get(str(host), []), tape, started)
        first = 1 + sum(map(len, asked.values()))
        asked[host] = list(found.asked(plan.questions(host, order.site), first, _MOST_IN_ALL // len(hosts)))
    known = known or classify.built_in()
    judged = tuple(host_of(str(host), (), asked[host], order.site, known) for host in hosts)
    site: Site = order.site
    scan = Scan(
        scanner=Scanner(version=__version__, rules=rules.digest()),
        id=f"{started:%Y%m%dT%H%M%SZ}-{digest[:8]}",
        started=started,
        finished=finished,
        site=site,
        authorization=order.authorization,
        vantage=vantage,
        hosts=judged,
        packs=packs_of(judged, known),
        evidence=tuple(one.evidence for group in asked.values() for one in group),
        capture="none" if capture is None else "wire",  # what the evidence has beside it
        origin=Origin(kind="capture", name=name, sha256=digest),
        **judge(judged, site, vantage, started),
    )
    if capture is None:
        notes.append(f"{name} is too large for the evidence, or of another form: keep the file itself beside it.")
    return Replayed(Result(scan, capture), tuple(notes))


def _address(text: str) -> Address:
    try:
        return ip_address(text.strip())
    except ValueError:
        raise Problem(
            f"--address {quoted(text, 60)} is no address; write it as it stands in the capture, 198.51.100.10."
        ) from None


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(min(max(at, 0.0), _LAST_MOMENT), UTC)


def _is_private(address: str) -> bool:
    read = ip_address(address)
    return any(read in network for network in _PRIVATE if network.version == read.version)


# --- the file ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Tape:
    """Notes down, while packets pass, when each frame of the hosts came and when a host last said something to whom."""

    hosts: Collection[Address]
    first: float = 0.0
    last: float = 0.0
    seen: set[Address] = field(default_factory=set)
    at: dict[int, float] = field(default_factory=dict)
    spoke: dict[tuple[Address, Address], float] = field(default_factory=dict)

    def pass_on(self, packets: Iterable[Packet]) -> Iterator[Packet]:
        for packet in packets:
            asked, told = packet.destination in self.hosts, packet.source in self.hosts
            if asked or told:
                self.first = min(self.first, packet.at) if self.seen else packet.at
                self.last = max(self.last, packet.at)
            if asked:
                self.seen.add(packet.destination)
                for frame in packet.frames:
                    self.at[frame] = packet.at
            if told:
                self.seen.add(packet.source)
                self.spoke[packet.source, packet.destination] = packet.at
            yield packet

    def counted(self, flow: Flow) -> int:
        """The tries of a silent flow that count: those after which the host said anything to the same partner.

        Where it never said a word to this partner there is nobody who could have begun to block it.
        """
        last = self.spoke.get((ip_address(flow.peer[0]), ip_address(flow.local[0])))
        if last is None:
            return flow.requests
        return min(flow.requests, sum(self.at.get(frame, last) <= last for frame in flow.frames))


def _all_there(file: BinaryIO, name: str, hosts: Sequence[Address], tape: _Tape) -> None:
    missing = [host for host in hosts if host not in tape.seen]
    if not missing:
        return
    file.seek(0)
    asked = Counter(str(packet.destination) for packet in read_packets(file, name))
    most = ", ".join(address for address, _ in asked.most_common(_MOST_NAMED)) or "none"
    raise Problem(
        *(
            f"{host} sends and receives nothing in {name}; the addresses that most went to are: {most}."
            for host in missing
        )
    )


def _keepable(file: BinaryIO) -> bytes | None:
    """The file's own bytes, where the evidence's reader takes them as they are."""
    data = file.read(_MOST_BYTES + 1)
    order: Literal["little", "big"] = "little" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else "big"
    classic = data[:4] in (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4")
    return data if classic and len(data) <= _MOST_BYTES and int.from_bytes(data[20:24], order) == _RAW else None


def _asked(flows: Iterable[Flow], notes: list[str]) -> tuple[dict[str, list[Flow]], bool]:
    """The flows that others began, by host, and whether any came from outside. Those from inside tell nothing then."""
    found = [flow for flow in flows if _others_began(flow)]
    inside = {partner: _is_private(partner) for partner in {flow.local[0] for flow in found}}
    outside = not inside or not all(inside.values())
    if outside and any(inside.values()):
        notes.append("Partners at private addresses are left out: what they see is no view from outside.")
        found = [flow for flow in found if not inside[flow.local[0]]]
    hosts: dict[str, list[Flow]] = {}
    for flow in found:
        hosts.setdefault(flow.peer[0], []).append(flow)
    return hosts, outside


def _others_began(flow: Flow) -> bool:
    if not flow.asked or begun_by_host(flow.transport, flow.events):
        return False
    return flow.requests > 0 or (flow.transport == "tcp" and any(event.what == "received" for event in flow.events))


# --- one host ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Row:
    """One flow as it was judged."""

    flow: Flow
    told: Heard
    tries: int

    @property
    def order(self) -> tuple[int, bool, bool, bool, int, int]:
        """The most telling first."""
        seen, state = self.told.observation, self.told.answer.state
        rank = list(Echo).index(state) if isinstance(state, Echo) else _TELLING.index(PortState(state))
        return rank, seen.service is None, seen.tls is None, not seen.answered, -len(seen.said), -self.tries


class _Found:
    """What the flows show of one host, in the form that every scan has."""

    def __init__(self, host: Address, flows: Iterable[Flow], tape: _Tape, started: datetime) -> None:
        self._host, self._tape, self._started = str(host), tape, started
        self._silent = Heard(silence("tcp", 0), Observation())
        self._refused: Heard | None = None
        self._ports: dict[tuple[str, int], list[_Row]] = {}
        for flow in flows:
            if (row := self._row(flow)) is not None:
                self._ports.setdefault((flow.transport, flow.peer[1]), []).append(row)
        for rows in self._ports.values():
            rows.sort(key=lambda row: row.order)

    def _row(self, flow: Flow) -> _Row | None:
        tries = tries_of(flow)
        if tries is None:
            tries = self._tape.counted(flow)
        told = self._heard(flow, tries)
        if not flow.requests and told.answer.state is not PortState.OPEN:  # nobody saw who began, and no word tells
            return None
        if is_of_the_way(flow, told.answer):
            return None
        return _Row(flow, told, tries)

    def _heard(self, flow: Flow, tries: int) -> Heard:
        if flow.transport == "tcp" and not flow.events:
            return self._silent
        refused = flow.transport == "tcp" and len(flow.events) == 1 and flow.events[0].detail == RST
        if refused and self._refused is not None:  # a wide scan meets thousands of these
            return self._refused
        question = question_of(flow.transport, flow.peer[1])
        told = heard(question, self._host, kept(flow), silence(flow.transport, tries))
        if refused:
            self._refused = told
        return told

    def asked(self, questions: Sequence[Question], number: int, most: int) -> Iterator[Asked]:
        """Everything with its evidence, the plan's questions first; evidence is numbered from `number` on."""
        planned = [(question.transport, question.port) for question in questions]
        single, together = self._beside(set(planned))
        rows = {key: self._ports.get(key, [])[:_MOST_OF_A_PORT] for key in (*planned, *single)}
        for limit in range(_MOST_OF_A_PORT, 0, -1):
            if sum(min(limit, max(1, len(group))) for group in rows.values()) <= most:
                break
        for key, group in rows.items():
            for row in group[:limit]:
                yield self._one(row, f"e{number}", limit)
                number += 1
            if not group:
                yield self._unmeasured(question_of(*key), f"e{number}")
                number += 1
        for group_, frames in self._groups(together, {port for transport, port in rows if transport == "tcp"}):
            proof = group_.evidence(f"e{number}", self._host, "", "sweep")
            yield Asked(group_, proof.model_copy(update={"frames": frames}))
            number += 1

    def _beside(self, planned: Collection[tuple[str, int]]) -> tuple[list[tuple[str, int]], list[int]]:
        """The ports beside the plan that are told one by one, and the TCP ports that are told together."""

        def state(key: tuple[str, int]) -> PortState:
            return PortState(self._ports[key][0].told.answer.state)

        others = [key for key in self._ports if key not in planned and key[0] != "icmp"]
        others.sort(key=lambda key: (_TELLING.index(state(key)), key))
        shut = {key for key in others if key[0] == "tcp" and state(key) is not PortState.OPEN}
        crowd = shut if len(shut) > _CROWD else set()
        single = [key for key in others if key not in crowd]
        most = max(0, _MOST_SINGLE - len(planned))
        crowd |= {key for key in single[most:] if key[0] == "tcp"}
        return single[:most], sorted(port for _, port in crowd)

    def _one(self, row: _Row, id_: str, limit: int) -> Asked:
        flow, answer, events = row.flow, row.told.answer, kept(row.flow)
        question = question_of(flow.transport, flow.peer[1])
        number = len(self._ports[flow.transport, flow.peer[1]])
        token = f"{min(limit, number)} of {number}" if number > limit else ""
        bare = Exchange(
            question, answer.state, answer.reason, answer.by, row.tries, rtt_of(flow), row.told.observation,
            _moment(flow.at), events,
        )  # fmt: skip
        proof = bare.evidence(id_, self._host, token).model_copy(update={"frames": ranges_text(flow.frames)})
        return Asked(exchange(question, row.told, proof, events), proof)

    def _unmeasured(self, question: Question, id_: str) -> Asked:
        state = Echo.UNMEASURED if question.transport == "icmp" else PortState.UNMEASURED
        nothing = Exchange(
            question, state, NOT_IN_THE_CAPTURE, None, 0, None, Observation(), self._started, ()
        )  # fmt: skip
        return Asked(nothing, nothing.evidence(id_, self._host, ""))

    def _groups(self, ports: Sequence[int], single: Collection[int]) -> Iterator[tuple[Knocks, str]]:
        """TCP ports that came to the same, and with them those that nobody asked, so that every port is told."""
        groups: dict[tuple[Answer, int], list[int]] = {}
        for port in ports:
            rows = self._ports["tcp", port]
            tries = sum(row.tries for row in rows if row.told.answer == rows[0].told.answer)
            answer = replace(rows[0].told.answer, rtt_ms=None)
            if answer.by is None and not tries:
                answer = Answer(PortState.UNMEASURED, WENT_DARK)
            groups.setdefault((answer, tries), []).append(port)
        for (answer, tries), same in groups.items():
            flows = [row.flow for port in same for row in self._ports["tcp", port]]
            ends = sorted({frame for flow in flows for frame in (flow.frames[0], flow.frames[-1])})
            first = _moment(min(flow.at for flow in flows))
            group = knocks(PortState(answer.state), answer.reason, answer.by, tries, first, same)
            yield group, str(ends[0]) if len(ends) == 1 else f"{ends[0]}-{ends[-1]}"
        if groups:
            told = {*ports, *single}
            rest = [port for port in plan.EVERY_PORT if port not in told]
            if rest:
                yield knocks(PortState.UNMEASURED, NOT_IN_THE_CAPTURE, None, 0, self._started, rest), ""
