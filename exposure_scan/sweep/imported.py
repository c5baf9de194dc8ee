"""A scan that Nmap made, read from its XML and judged as one of ours. Nothing is sent.

Nmap does not tell how often it asked a silent port, so each silence counts as one try. That is too few for the
rule of `hosts`: a silence becomes "not measured", and a GO never rests on it. What the file does not tell is
"not measured", too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from io import BufferedReader, BytesIO
from ipaddress import ip_address
from typing import TypeAlias, Unpack

from exposure_scan import __version__, classify, nmap, plan, scope
from exposure_scan.conversation import Exchange, Observation, Secured, escape, unescape
from exposure_scan.model import (
    Echo,
    Evidence,
    Origin,
    PortState,
    Problem,
    Purpose,
    Question,
    Scan,
    Scanner,
    Site,
    Vantage,
)
from exposure_scan.model.text import quoted, within
from exposure_scan.protocols.tls import certificate_facts, said

from .hosts import Asked, host_of, judge, packs_of
from .knocks import MOST_ASKED_ON, Knocks, knocks

PROBE = "nmap"
WHERE = "where Nmap ran (not known)"
_TLS = "TLS"  # Nmap's file does not tell which version
_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Imported:
    """The judged scan, and what the file leaves untold, one sentence each."""

    scan: Scan
    notes: tuple[str, ...]


def from_nmap(
    file: BufferedReader | BytesIO,
    name: str,
    *,
    addresses: Sequence[str] = (),
    known: classify.Known | None = None,
    **words: Unpack[scope.Words],
) -> Imported:
    """Judge what a file of Nmap's tells of one site.

    Args:
        file: what Nmap wrote with ``-oX``; seekable.
        name: of the file.
        addresses: of the site; may be empty where the file tells of one address only.
        known: the fingerprints to go by, by default the scanner's own.
        words: what the operator says of the site, as typed.

    Raises:
        Problem: the file is none of Nmap's or damaged, it tells of several addresses and none was chosen, or
            something that the operator said is wrong.
    """
    wanted = tuple(dict.fromkeys(_address(text) for text in addresses))
    read = nmap.read_nmap(file, name, wanted)
    chosen = wanted or _only_one(read, name)
    order = _order(chosen, name, words)
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    notes = [*read.notes]
    asked: dict[str, list[Asked]] = {}
    number = 0
    for address in chosen:
        found = read.hosts.get(address)
        if found is None:
            notes.append(f"{name} tells nothing of {address}: Nmap had no answer there, or was never told to ask.")
        at = read.started if found is None or found.at is None else found.at
        asked[address] = []
        for row in _rows(address, order.site, found, at, notes):
            number += 1
            asked[address].append(Asked(row[0], _evidence(f"e{number}", address, row)))
    known = known or classify.built_in()
    hosts = tuple(
        host_of(address, read.hosts[address].names if address in read.hosts else (), asked[address], order.site, known)
        for address in chosen
    )
    if thin := sum(port.reason == "too-few-tries" for host in hosts for port in host.ports):
        notes.append(
            f"Not measured are {thin} that were silent: Nmap's file does not tell how often it asked them. "
            "A scan of one's own does."
        )
    scan = Scan(
        scanner=Scanner(version=__version__),
        id=f"{read.started:%Y%m%dT%H%M%SZ}-{digest[:8]}",
        started=read.started,
        finished=read.finished,
        site=order.site,
        authorization=order.authorization,
        vantage=order.vantage,
        hosts=hosts,
        packs=packs_of(hosts, known),
        evidence=tuple(one.evidence for group in asked.values() for one in group),
        capture="none",
        origin=Origin(kind="nmap", name=within(name, 200), sha256=digest, by=f"Nmap {read.version}: {read.args}"),
        **judge(hosts, order.site, order.vantage, read.started),
    )
    return Imported(scan, tuple(dict.fromkeys(notes)))


def _address(text: str) -> str:
    address = nmap.address_of(text.strip())
    if address is None:
        raise Problem(f"--address {quoted(text, 60)} is no address; write it as it stands in the file, 198.51.100.10.")
    return address


def _only_one(read: nmap.NmapRun, name: str) -> tuple[str, ...]:
    """The one address of the file, or, of several, the one that has ports."""
    told = [host.address for host in read.hosts.values() if host.ports or host.rest] or list(read.hosts)
    if not told:
        raise Problem(
            f"{name} tells of no address: Nmap had no answer. Give the address with --address, or have Nmap ask it "
            "without its own ping (-Pn)."
        )
    if len(told) > 1:
        more = f" and {len(told) - _MOST_NAMED} more" if len(told) > _MOST_NAMED else ""
        raise Problem(
            f"{name} tells of {len(told)} addresses ({', '.join(told[:_MOST_NAMED])}{more}): one site at a time; "
            "give --address."
        )
    return tuple(told)


def _order(addresses: Sequence[str], name: str, words: scope.Words) -> scope.Order:
    """An order with nobody's consent: nothing is sent on its strength. Private addresses are no outside view."""
    by = f"nobody: nothing was sent; read from {within(name, 200)}"
    try:
        order = scope.order_from_words(addresses, authorized_by=by, **words)
    except Problem:
        inside: scope.Words = {**words, "internal": True}
        order = scope.order_from_words(addresses, authorized_by=by, **inside)
    return replace(order, vantage=Vantage(name=WHERE, checked=False, outside=order.vantage.outside))


# --- from the file to exchanges -------------------------------------------------------------------

Row: TypeAlias = tuple[Exchange, str, int | None]
"""An exchange, Nmap's record of it, and the time to live of its SYN-ACK."""


def _rows(address: str, site: Site, found: nmap.NmapHost | None, at: datetime, notes: list[str]) -> Iterator[Row]:
    """Every question of the default plan, then what the file tells beside it."""
    questions = plan.questions(ip_address(address), site)
    for question in questions:
        if question.transport == "icmp":
            text = "" if found is None else nmap.host_record(found.status, found.reason)
            yield _exchange(address, Question("icmp", 0, PROBE), text, at), text, None
            continue
        port = None if found is None else found.port(question.transport, question.port)
        yield _row(address, Question(question.transport, question.port, PROBE), port, at)
    if found is not None:
        planned = {str(question) for question in questions}
        number = sum(key.startswith("tcp/") and found.port("tcp", int(key[4:])) is not None for key in planned)
        beside = [port for port in found.every_port() if f"{port.transport}/{port.port}" not in planned]
        yield from _beside(address, beside, number, at, notes)


def _beside(
    address: str, ports: Sequence[nmap.NmapPort], planned: int, at: datetime, notes: list[str]
) -> Iterator[Row]:
    """Ports that are in no plan: what is open by itself, and the others together if no TCP port is missing.

    A sweep is one of all TCP ports wherever it is judged, so that a part of them is no sweep.
    """
    groups: dict[tuple[PortState, str, str | None], list[int]] = {}
    whole = sum(port.transport == "tcp" for port in ports) + planned >= len(plan.EVERY_PORT)
    open_, left_out = 0, 0
    for port in ports:
        saw = nmap.seen(port.transport, address, nmap.record(port))
        is_open = saw.state is PortState.OPEN
        if is_open and open_ < MOST_ASKED_ON:
            open_ += 1
            yield _row(address, Question(port.transport, port.port, PROBE), port, at)
        elif port.transport == "tcp" and (whole or is_open):
            groups.setdefault((PortState(saw.state), saw.reason, saw.by), []).append(port.port)
        else:
            left_out += 1
    for (state, reason, by), numbers in groups.items():
        yield knocks(state, reason, by, _tries(by, state), at, numbers), "", None
    if left_out:
        notes.append(
            f"{address}: what was shut or silent beside the plan is left out (ports: {left_out:,}); only a scan of all "
            "TCP ports (-p-) tells something of moved services."
        )


def _row(address: str, question: Question, told: nmap.NmapPort | None, at: datetime) -> Row:
    text = "" if told is None else nmap.record(told)
    exchange = _exchange(address, question, text, at)
    own = told is not None and told.ttl and exchange.reason == "syn-ack" and exchange.by == address
    return exchange, text, told.ttl if told is not None and own else None


def _exchange(address: str, question: Question, text: str, at: datetime) -> Exchange:
    """What a record shows, in the form of a question of our own; no record is no answer and no silence.

    Raises:
        ValueError: the record is none of Nmap's.
    """
    if not text:
        state = Echo.UNMEASURED if question.transport == "icmp" else PortState.UNMEASURED
        return Exchange(question, state, nmap.NOT_TOLD, None, 0, None, Observation(), at, ())
    saw = nmap.seen(question.transport, address, text)
    words = saw.observation
    if saw.tls:
        tls = certificate_facts(Secured(_TLS, "", saw.certificate))
        words = replace(words, tls=tls, said={**words.said, **said(tls)})
    return Exchange(question, saw.state, saw.reason, saw.by, _tries(saw.by, saw.state), None, words, at, ())


def _tries(by: str | None, state: PortState | Echo) -> int:
    """One for a silence: Nmap does not tell how often it asked. None for an answer, lest it counts as without loss."""
    return int(by is None and state not in (PortState.UNMEASURED, Echo.UNMEASURED))


def _evidence(id_: str, address: str, row: Row) -> Evidence:
    exchange, text, ttl = row
    purpose: Purpose = "sweep" if isinstance(exchange, Knocks) else "ask"
    proof = exchange.evidence(id_, address, "", purpose)
    return proof.model_copy(update={"received": escape(text.encode()), "ttl": ttl})


def repeated(proof: Evidence) -> Exchange:
    """The exchange that the evidence of an imported scan keeps, out of Nmap's words.

    Raises:
        ValueError: the words are none of Nmap's, or steps stand beside them.
    """
    if proof.steps or proof.sent or proof.probe != PROBE or proof.purpose != "ask":
        raise ValueError(f"evidence {proof.id}: what Nmap said has no steps")
    try:
        text = unescape(proof.received).decode()
        return _exchange(proof.address, Question(proof.kind, proof.port, PROBE), text, proof.at)
    except ValueError as error:
        raise ValueError(f"evidence {proof.id}: {error}") from None
