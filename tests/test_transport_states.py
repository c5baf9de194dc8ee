"""TCP: what a port is, who said so, and after how many tries."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

import peers
import pytest
from peers import (
    CONNECT,
    HOST,
    HOST6,
    ROUTER,
    ROUTER6,
    SILENT,
    Clock,
    admitted,
    ask,
    everything,
    line,
    run,
    script,
    target,
)

from exposure_scan.conversation import Exchange, Send
from exposure_scan.model import PortState, Target
from exposure_scan.transport import Gate
from exposure_scan.transport.icmp import IcmpError

TWICE = script(CONNECT, line(), everything())  # two waits: what comes, and how it ends
GREETING = b"220 synthetic\r\n"
FLOOD = b"\xff" * 4096


@pytest.fixture(scope="module", autouse=True)
def own_addresses() -> None:
    peers.own_addresses()


def answer_of(exchange: Exchange) -> tuple[str, str, str | None]:
    return exchange.state.value, exchange.reason, exchange.by


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await peers.wait_for_end(reader)


@pytest.mark.parametrize("host", [HOST, HOST6, "127.0.0.7", "::1"])
def test_an_open_port_and_a_closed_one(host: str) -> None:
    async def main() -> None:
        gate, whom = admitted(host)
        async with peers.serving(silence, host) as port:
            exchange = await ask(gate, whom, "tcp", port, script(CONNECT))
            assert answer_of(exchange) == ("open", "syn-ack", host)
            assert exchange.observation.notes[0].endswith(f" to {host}|{port}")
            assert exchange.tries == 1
            assert exchange.rtt_ms is not None
            assert exchange.rtt_ms > 0
        exchange = await ask(gate, whom, "tcp", peers.closed_port(socket.SOCK_STREAM, host), script(CONNECT))
        assert answer_of(exchange) == ("closed", "rst", host)
        assert exchange.observation.notes == ("not connected: rst",)
        assert exchange.tries == 1

    run(main())


def test_silence_is_filtered_after_more_than_one_try_from_more_than_one_port() -> None:
    async def one(address: str, port: int) -> None:
        gate, whom = admitted(address)
        async with peers.wire() as seen:
            exchange = await ask(gate, whom, "tcp", port, TWICE)
            syns = seen.to(address)
        assert answer_of(exchange) == ("filtered", "no-response", None)
        assert exchange.rtt_ms is None
        assert exchange.observation.notes[0] == "not connected: no-response"
        assert exchange.tries == len(syns) > 2  # two attempts, and what the kernel repeated
        start = 20 if ":" not in address else 40
        assert len({packet[start : start + 2] for packet in syns}) == 2

    async def main() -> None:
        with peers.deaf_port(HOST6) as port:
            await asyncio.gather(one(SILENT, 25), one(HOST6, port))

    run(main(), real_time=True)  # the kernel's repetitions take the time that they take


@pytest.mark.parametrize(
    ("about", "says", "kind", "code", "state", "reason"),
    [
        (SILENT, ROUTER, 3, 13, "filtered", "icmp-admin-prohibited"),
        (SILENT, ROUTER, 3, 9, "filtered", "icmp-net-prohibited"),
        (SILENT, ROUTER, 3, 10, "filtered", "icmp-host-prohibited"),
        (SILENT, ROUTER, 3, 3, "filtered", "icmp-port-unreachable"),  # a router cannot say that a port is closed
        (SILENT, ROUTER, 3, 1, "filtered", "icmp-host-unreachable"),
        (SILENT, ROUTER, 11, 0, "filtered", "icmp-time-exceeded"),
        (SILENT, "198.51.100.250", 3, 1, "unmeasured", "local-error: icmp-host-unreachable"),  # our own kernel
        (HOST6, ROUTER6, 1, 1, "filtered", "icmp-admin-prohibited"),
        (HOST6, ROUTER6, 1, 4, "filtered", "icmp-port-unreachable"),
        (HOST6, ROUTER6, 1, 0, "filtered", "icmp-net-unreachable"),
    ],
)
def test_what_a_router_says_of_a_tcp_port(about: str, says: str, kind: int, code: int, state: str, reason: str) -> None:
    async def main() -> None:
        gate, whom = admitted(about)
        with peers.deaf_port(HOST6) as port:
            async with peers.router(kind, code, about=about, says=says):
                exchange = await ask(gate, whom, "tcp", port, TWICE)
        by = says if state == "filtered" else None
        assert answer_of(exchange) == (state, reason, by)
        assert any(event.detail == f"type={kind} code={code} from={says}" for event in exchange.events)

    run(main())


def test_a_hosts_own_port_unreachable_closes_a_tcp_port() -> None:
    async def main() -> None:
        gate, whom = admitted(SILENT)
        # Nobody but its owner can send from an address; a raw header lends it for the test.
        async with peers.wire() as seen:
            seen.react = lambda packet: lend(packet) if peers.destination(packet) == SILENT else None
            exchange = await ask(gate, whom, "tcp", 25, TWICE)
        assert answer_of(exchange) == ("closed", "icmp-port-unreachable", SILENT)

    def lend(packet: bytes) -> None:
        quoted = packet[: len(packet) // 2 * 2]
        head = struct.pack("!BBHI", 3, 3, 0, 0)
        message = struct.pack("!BBHI", 3, 3, peers.checksum(head + quoted), 0) + quoted
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 1, 0, 64, 1, 0) + packet[16:20] + packet[12:16]
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
            sock.sendto(ip + message, (socket.inet_ntoa(packet[12:16]), 0))

    run(main())


def test_an_icmp_error_in_passing_does_not_end_a_connection_that_stands() -> None:
    async def main() -> None:
        gate, whom = admitted()
        async with peers.wire() as seen:

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read(100)
                seen.read()
                packet = next(packet for packet in seen.packets if packet.endswith(b"a word"))
                # As if about the next segment: the kernel believes an error only of what is not yet acknowledged.
                following = (int.from_bytes(packet[24:28]) + len(b"a word")) % 2**32
                peers.send_error(ROUTER, HOST, 3, 1, packet[:24] + following.to_bytes(4) + packet[28:])
                await asyncio.sleep(0.1)
                writer.write(GREETING)
                await peers.wait_for_end(reader)

            async with peers.serving(serve) as port:
                exchange = await ask(gate, whom, "tcp", port, script(CONNECT, Send(b"a word"), line()))
        assert exchange.state is PortState.OPEN
        assert exchange.observation.notes[1] == f"enough {GREETING!r}"

    run(main())


def test_what_a_router_said_of_one_try_may_pass_with_the_next() -> None:
    async def main(listener: socket.socket) -> None:
        gate, whom = admitted()
        async with peers.wire() as seen:

            def refuse_the_first(packet: bytes) -> None:
                seen.react = lambda packet: None
                peers.send_error(ROUTER, HOST, 3, 1, packet)
                listener.accept()[0].close()  # makes room for the next one

            seen.react = refuse_the_first
            exchange = await ask(gate, whom, "tcp", listener.getsockname()[1], script(CONNECT))
        assert answer_of(exchange) == ("open", "syn-ack", HOST)
        assert [event.what for event in exchange.events] == ["asking", "icmp", "asking", "connected"]
        assert exchange.tries == 2

    with socket.socket() as listener, socket.socket() as only:
        listener.bind((HOST, 0))
        listener.listen(0)
        only.connect(listener.getsockname())  # the queue is full, and the next SYN is dropped
        run(main(listener))


def test_the_names_of_icmp_errors() -> None:
    names = {
        (3, 0, ROUTER): "icmp-net-unreachable",
        (3, 2, ROUTER): "icmp-proto-unreachable",
        (3, 200, ROUTER): "icmp-type-3-code-200",
        (12, 0, ROUTER): "icmp-parameter-problem",
        (5, 1, ROUTER): "icmp-type-5-code-1",
        (3, 0, ROUTER6): "icmp-time-exceeded",  # the same numbers mean other things in ICMPv6
        (1, 3, ROUTER6): "icmp-host-unreachable",
        (1, 5, ROUTER6): "icmp-admin-prohibited",
    }
    for (kind, code, who), name in names.items():
        error = IcmpError(kind, code, target(who).address)
        assert error.reason == name
        assert error.refuses
    for kind, code, who in ((3, 4, ROUTER), (2, 0, ROUTER6)):  # a word about the size of a packet is no refusal
        assert not IcmpError(kind, code, target(who).address).refuses


class Meddling(Gate):
    """A gate behind which something happens between our SYN and our first look."""

    def __init__(self, meddle: Callable[[], None]) -> None:
        super().__init__(clock=Clock())
        self._meddle = meddle

    async def tcp(self, target: Target, port: int, *, begun: bool = False) -> socket.socket:
        sock = await super().tcp(target, port, begun=begun)
        self._meddle()
        return sock


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
@pytest.mark.parametrize("words", [b"", GREETING])
def test_a_port_that_takes_the_connection_and_ends_it_at_once_is_open(reset: bool, words: bytes) -> None:
    async def main(listener: socket.socket) -> None:
        def hang_up() -> None:
            with listener.accept()[0] as accepted:
                accepted.send(words)
                if reset:
                    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        gate, whom = Meddling(hang_up), target()
        gate.admit(whom)
        port = listener.getsockname()[1]
        exchange = await ask(gate, whom, "tcp", port, script(CONNECT, everything(), Send(b"a word"), everything()))
        assert answer_of(exchange) == ("open", "syn-ack", HOST)
        if reset:  # what was said before a reset may be lost with it
            assert exchange.observation.notes[0] == f"connected {HOST} to {HOST}|{port}"
            assert exchange.observation.notes[1].startswith("reset")
        else:
            assert exchange.observation.notes[1] == f"closed {words!r}"

    with socket.create_server((HOST, 0)) as listener:
        run(main(listener))
