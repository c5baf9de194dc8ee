"""UDP: what an address says, what a router says for it, and what silence is worth."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any

import peers
import pytest
from peers import (
    CONNECT,
    HOST,
    HOST6,
    ROUTER,
    ROUTER6,
    SILENT,
    admitted,
    anything,
    ask,
    everything,
    line,
    probe,
    run,
    script,
)

from exposure_scan.conversation import Exchange, Send, StartTls
from exposure_scan.model import PortState

KNOCK = script(CONNECT, Send(b"a word"), anything(), Send(b"another"), anything())


@pytest.fixture(scope="module", autouse=True)
def own_addresses() -> None:
    peers.own_addresses()


def answer_of(exchange: Exchange) -> tuple[str, str, str | None]:
    return exchange.state.value, exchange.reason, exchange.by


# --- UDP ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [HOST, HOST6, "127.0.0.7", "::1"])
def test_a_reply_opens_the_port(host: str) -> None:
    async def main() -> None:
        gate, whom = admitted(host)
        async with peers.answering(lambda data: [b"heard " + data], host) as peer:
            exchange = await ask(gate, whom, "udp", peer.port, KNOCK)
        assert answer_of(exchange) == ("open", "udp-reply", host)
        assert exchange.observation.notes[0].endswith(f" to {host}|{peer.port}")
        assert exchange.observation.notes[1:] == ("enough b'heard a word'", "enough b'heard another'")
        assert exchange.tries == 2
        assert exchange.rtt_ms is not None
        assert [data for _, data in peer.got] == [b"a word", b"another"]

    run(main())


@pytest.mark.parametrize("host", [HOST, HOST6])
def test_a_host_that_refuses_closes_the_port_at_the_first_try(host: str) -> None:
    async def main() -> None:
        gate, whom = admitted(host)
        exchange = await ask(gate, whom, "udp", peers.closed_port(socket.SOCK_DGRAM, host), probe("dns"))
        assert answer_of(exchange) == ("closed", "icmp-port-unreachable", host)
        assert (exchange.tries, exchange.rtt_ms) == (1, None)
        assert [event.what for event in exchange.events] == ["connected", "sent", "icmp", "reset"]

    run(main())


def test_an_error_about_an_earlier_datagram_does_not_swallow_the_next() -> None:
    async def main() -> None:
        gate, whom = admitted()
        async with peers.wire() as seen:
            talk = script(CONNECT, *(Send(word) for word in (b"one", b"two", b"three")), everything())
            exchange = await ask(gate, whom, "udp", peers.closed_port(socket.SOCK_DGRAM), talk)
            sent = [packet[28:] for packet in seen.to(HOST) if packet[9] == 17]
        assert sent == [b"one", b"two", b"three"]
        assert exchange.tries == 3
        assert exchange.state is PortState.CLOSED

    run(main())


@pytest.mark.parametrize("name", ["dns", "sip-udp", "ntp", "snmp", "ike", "l2tp", "tftp", "empty"])
def test_silence_is_open_or_filtered_after_three_tries(name: str) -> None:
    async def main() -> None:
        gate, whom = admitted(SILENT)
        async with peers.wire() as seen:
            exchange = await ask(gate, whom, "udp", 1234, probe(name))
            sent = [packet[28:] for packet in seen.to(SILENT)]
        assert answer_of(exchange) == ("open|filtered", "no-response", None)
        assert exchange.tries == len(sent) >= 3
        assert len(set(sent)) == 1
        assert not exchange.observation.answered

    run(main())


def test_an_empty_datagram_is_a_question_and_an_answer() -> None:
    async def main() -> None:
        gate, whom = admitted()
        async with peers.answering(lambda data: [b""]) as peer:
            exchange = await ask(gate, whom, "udp", peer.port, probe("empty"))
        assert answer_of(exchange) == ("open", "udp-reply", HOST)
        assert [data for _, data in peer.got] == [b""]
        assert exchange.observation.answered

    run(main())


def test_only_the_asked_address_and_port_can_answer() -> None:
    async def main() -> None:
        gate, whom = admitted()
        async with peers.answering(host=ROUTER) as elsewhere, peers.answering() as neighbour:
            local: list[Any] = []

            def others_answer(data: bytes) -> list[bytes]:
                for other in (elsewhere, neighbour):
                    other.sock.sendto(b"from another", local[0])
                return [b"from the asked one"] if data == b"another" else []

            async with peers.answering(others_answer) as peer:
                peer.knows = local.append
                exchange = await ask(gate, whom, "udp", peer.port, KNOCK)
        assert exchange.observation.notes[1:] == ("silent b''", "enough b'from the asked one'")
        assert answer_of(exchange) == ("open", "udp-reply", HOST)
        assert b"from another" not in [event.data for event in exchange.events]

    run(main())


@pytest.mark.parametrize(("host", "place"), [(HOST, "port"), (ROUTER, "address")])
def test_an_answer_from_elsewhere_opens_no_port_and_shuts_none(host: str, place: str) -> None:
    async def main() -> None:
        gate, whom = admitted()
        local: list[Any] = []
        async with peers.answering(host=host) as elsewhere:

            def another_answers(data: bytes) -> list[bytes]:
                elsewhere.sock.sendto(b"from another", local[0])
                return []

            async with peers.answering(another_answers) as peer:
                peer.knows = local.append
                exchange = await ask(gate, whom, "udp", peer.port, KNOCK)
        assert answer_of(exchange) == ("unmeasured", f"answered-from-another-{place}", None)
        assert [event.detail for event in exchange.events if event.what == "elsewhere"] == [f"{host}|{elsewhere.port}"]

    run(main())


@pytest.mark.parametrize(
    ("about", "says", "kind", "code", "state", "reason"),
    [
        (SILENT, ROUTER, 3, 13, "filtered", "icmp-admin-prohibited"),
        (SILENT, ROUTER, 3, 10, "filtered", "icmp-host-prohibited"),
        (SILENT, ROUTER, 3, 3, "filtered", "icmp-port-unreachable"),  # a router cannot say that a port is closed
        (SILENT, ROUTER, 3, 0, "filtered", "icmp-net-unreachable"),
        (SILENT, ROUTER, 11, 0, "filtered", "icmp-time-exceeded"),
        (SILENT, ROUTER, 3, 4, "open|filtered", "no-response"),  # about the size, not about the port
        (SILENT, "198.51.100.250", 3, 1, "unmeasured", "local-error: icmp-host-unreachable"),  # our own kernel
        (HOST6, ROUTER6, 1, 1, "filtered", "icmp-admin-prohibited"),
        (HOST6, ROUTER6, 1, 4, "filtered", "icmp-port-unreachable"),
    ],
)
def test_what_a_router_says_of_a_udp_port(about: str, says: str, kind: int, code: int, state: str, reason: str) -> None:
    async def main() -> None:
        gate, whom = admitted(about)
        async with peers.answering(host=HOST6) as silent, peers.router(kind, code, about=about, says=says):
            exchange = await ask(gate, whom, "udp", silent.port, probe("ntp"))
        assert answer_of(exchange) == (state, reason, says if state == "filtered" else None)
        assert any(event.detail == f"type={kind} code={code} from={says}" for event in exchange.events)

    run(main())


def test_a_reply_outweighs_what_a_router_said() -> None:
    async def main() -> None:
        gate, whom = admitted()
        async with peers.wire() as seen:

            def refuse_the_first(packet: bytes) -> None:
                if packet.endswith(b"a word"):
                    peers.send_error(ROUTER, HOST, 3, 13, packet)

            seen.react = refuse_the_first
            async with peers.answering(lambda data: [b"here"] if data == b"another" else []) as peer:
                exchange = await ask(gate, whom, "udp", peer.port, KNOCK)
        assert answer_of(exchange) == ("open", "udp-reply", HOST)
        assert exchange.observation.notes[1:] == ("reset b''", "enough b'here'")

    run(main())


def test_datagrams_that_are_not_wanted_are_recorded_and_passed_over() -> None:
    async def main() -> None:
        gate, whom = admitted()
        async with peers.answering(lambda data: [b"", b"\xff" * 9000, b"a line\n"]) as peer:
            exchange = await ask(gate, whom, "udp", peer.port, script(CONNECT, Send(b"x"), line(limit=65536)))
        assert exchange.observation.notes[1] == r"enough b'a line\n'"
        assert [len(event.data) for event in exchange.events if event.what == "received"] == [0, 9000, 7]

    run(main())


@pytest.mark.parametrize("flood", [[b""] * 300, [b"x" * 1000] * 10], ids=["empty", "large"])
def test_a_flood_ends_at_the_limit(flood: list[bytes]) -> None:
    async def main() -> None:
        gate, whom = admitted()
        async with peers.answering(lambda data: flood) as peer:
            exchange = await ask(gate, whom, "udp", peer.port, script(CONNECT, Send(b"x"), everything(limit=4096)))
        assert exchange.observation.notes[1] == "limit b''"

    run(main())


def test_the_deadline_ends_every_wait_and_lets_nothing_more_out() -> None:
    async def main() -> None:
        gate, whom = admitted()
        loop = asyncio.get_running_loop()
        async with peers.answering() as peer:
            began = loop.time()
            talk = script(CONNECT, Send(b"in time"), everything(1e6), Send(b"too late"), everything(1e6))
            exchange = await ask(gate, whom, "udp", peer.port, talk, deadline=3)
            assert loop.time() - began < 4
            await asyncio.sleep(0.1)  # what had been sent would have come by now
        assert exchange.observation.notes[1:] == ("silent b''", "silent b''")
        assert [data for _, data in peer.got] == [b"in time"]

    run(main())


def test_what_cannot_be_sent_measures_nothing() -> None:
    async def main() -> None:
        gate, whom = admitted(SILENT)
        exchange = await ask(gate, whom, "udp", 53, script(CONNECT, Send(bytes(70000)), everything()))
        assert answer_of(exchange) == ("unmeasured", f"local-error: {os.strerror(errno.EMSGSIZE)}", None)
        exchange = await ask(gate, whom, "udp", 53, script(CONNECT, everything()))
        assert answer_of(exchange) == ("unmeasured", "not-asked", None)
        exchange = await ask(gate, whom, "udp", 53, script(CONNECT, StartTls(1), Send(b"x"), everything()))
        assert exchange.observation.notes[1] == "not secured: not a stream"

    run(main())
