"""A scripted DNS server, and what comes of an order whose names it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias, cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from exposure_scan.model import Problem, Target
from exposure_scan.scope import Order, resolve

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NXDOMAIN, SERVFAIL, REFUSED = dns.rcode.NXDOMAIN, dns.rcode.SERVFAIL, dns.rcode.REFUSED
SILENCE = None
Said: TypeAlias = Sequence[str] | dns.rcode.Rcode | None  # records, or an error, or nothing at all


@dataclass
class Server(asyncio.DatagramProtocol):
    """Answers from `zone`, whose keys are questions ("pbx.dental.example. A"); the rest does not exist.

    Records are "owner type data". Before each answer goes one that belongs to another question, as a
    forger would send it.
    """

    zone: dict[str, Said]
    asked: list[str] = field(default_factory=list)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        (question,) = query.question
        key = f"{question.name} {dns.rdatatype.to_text(question.rdtype)}"
        self.asked.append(key)
        said = self.zone.get(key, NXDOMAIN)
        forged = dns.message.make_response(query)
        forged.id = query.id ^ 1
        forged.answer = records([f"{question.name} A 198.51.100.66"])
        self.transport.sendto(forged.to_wire(), addr)
        if said is SILENCE:
            return
        answer = dns.message.make_response(query, recursion_available=True)
        if isinstance(said, dns.rcode.Rcode):
            answer.set_rcode(said)
        else:
            answer.answer = records(said)
        self.transport.sendto(answer.to_wire(max_size=65535), addr)


def records(texts: Sequence[str]) -> list[dns.rrset.RRset]:
    sets: dict[tuple[str, str], list[str]] = {}
    for text in texts:
        owner, kind, data = text.split(" ")
        sets.setdefault((owner, kind), []).append(data)
    return [dns.rrset.from_text(owner, 60, "IN", kind, *data) for (owner, kind), data in sets.items()]


def name(of: str, *data: str) -> dict[str, Said]:
    """The zone's entries of a name that has these addresses and no others."""
    zone: dict[str, list[str]] = {f"{of}. A": [], f"{of}. AAAA": []}
    for address in data:
        kind = "AAAA" if ":" in address else "A"
        zone[f"{of}. {kind}"].append(f"{of}. {kind} {address}")
    return {**zone}


def ask(
    made: Order, zone: dict[str, Said], *, seconds: float = 5.0, now: datetime = NOW
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The addresses with their names, and what the server was asked."""

    async def run() -> tuple[Target, ...]:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=("127.0.0.1", 0))
        try:
            at = transport.get_extra_info("sockname")
            return await resolve(made, clock=lambda: now, nameservers=(at,), seconds=seconds)
        finally:
            transport.close()

    server = Server(zone)
    try:
        targets = asyncio.run(run())
    except Problem as problem:
        problem.add_note(" ".join(server.asked))
        raise
    return {str(target): target.names for target in targets}, server.asked
