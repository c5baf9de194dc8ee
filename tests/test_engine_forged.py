"""What one host does to the sockets that the engine shares must change nothing that is found of another."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

import peers
import pytest
from peers import CONNECT, HOST, ROUTER, admitted, anything, probe, run, script
from test_engine import answers, ask

from exposure_scan.conversation import Exchange, Send
from exposure_scan.lab import packets
from exposure_scan.lab.packets import TCP, UDP, Packet
from exposure_scan.transport import engine, wire

VICTIM = peers.SILENT  # nobody's: what is said in its name is forged
WORDS = b"words of ours"
UNHEARD = ("unmeasured", "unheard", None)
TALK = script(CONNECT, Send(WORDS), anything(0.4))
Forge = Callable[[Packet, bytes], bytes | None]  # the packet to the victim, taken apart and raw, to what is quoted


@pytest.fixture(scope="module", autouse=True)
def own_addresses() -> None:
    peers.own_addresses()


def with_head(packet: Packet, body: bytes) -> bytes:
    """A quote: the IP header as it was sent, and so much of its body."""
    return packets.write(packet)[:20] + body


def refused_in_its_name(transport: str, forge: Forge) -> list[Exchange | None]:
    """Ask the victim, while each packet to it is answered by an error that quotes what `forge` makes of it."""

    async def main() -> list[Exchange | None]:
        gate, whom = admitted(VICTIM)
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as out:
            async with peers.wire() as seen:

                def react(raw: bytes) -> None:
                    packet = packets.read(raw)
                    if packet is None or packet.destination != VICTIM or packet.protocol not in (TCP, UDP):
                        return
                    quoted = forge(packet, raw)
                    if quoted is not None:
                        head = struct.pack("!BBHI", packets.UNREACHABLE, packets.PORT_UNREACHABLE, 0, 0)
                        error = packets.write(Packet(VICTIM, packet.source, packets.ICMP, head + quoted))
                        out.sendto(error, (packet.source, 0))

                seen.react = react
                make = probe("silent") if transport == "tcp" else TALK
                return await ask(gate, whom, (transport, 5060, make))

    return run(main())


SEQUENCE = slice(4, 8)


@pytest.mark.parametrize(
    ("forge", "told"),
    [
        (lambda packet, raw: raw[:28], ("closed", "icmp-port-unreachable", VICTIM)),  # the truth, as RFC 792 has it
        (lambda packet, raw: raw, ("closed", "icmp-port-unreachable", VICTIM)),
        (lambda packet, raw: raw[:24] + b"\x5e\xed\x5e\xed", ("filtered", "no-response", None)),
        (lambda packet, raw: raw[:27], ("filtered", "no-response", None)),
        (lambda packet, raw: raw[:24], ("filtered", "no-response", None)),
        (lambda packet, raw: with_head(packet, b"\x10\x01" + packet.body[2:8]), ("filtered", "no-response", None)),
    ],
    ids=["8 bytes", "whole", "another sequence", "7 bytes", "4 bytes", "another port"],
)
def test_an_error_about_a_syn_counts_where_it_knows_the_sequence_number(
    forge: Forge, told: tuple[str, str, str | None]
) -> None:
    assert answers(refused_in_its_name("tcp", forge)) == [told]


@pytest.mark.parametrize(
    ("forge", "told"),
    [
        (lambda packet, raw: raw, ("closed", "icmp-port-unreachable", VICTIM)),
        (lambda packet, raw: raw[:32], ("closed", "icmp-port-unreachable", VICTIM)),
        (lambda packet, raw: raw[:28], UNHEARD),  # it may be true: a socket of its own asks again
        (lambda packet, raw: raw[:28] + b"words of others", UNHEARD),
    ],
    ids=["whole", "4 bytes of ours", "no words", "others' words"],
)
def test_an_error_about_a_datagram_counts_where_it_knows_our_words(
    forge: Forge, told: tuple[str, str, str | None]
) -> None:
    assert answers(refused_in_its_name("udp", forge)) == [told]


def test_an_error_about_somebody_elses_datagram_is_not_taken_for_one_about_ours() -> None:
    """On an ordinary socket, which is not connected: whatever quotes its port reaches it."""

    async def main() -> Exchange:
        gate, whom = admitted()
        async with peers.answering() as asked:

            def refuse(source: tuple[str, int]) -> None:
                elsewhere = packets.udp(source[1], asked.port, WORDS, source[0], VICTIM)
                peers.send_error(ROUTER, source[0], 3, 13, elsewhere)

            asked.knows = refuse
            return await peers.ask(gate, whom, "udp", asked.port, TALK)

    found = run(main())
    assert (str(found.state), found.reason) == ("open|filtered", "no-response")
    assert [event.what for event in found.events] == ["connected", "sent", "silent"]


def test_of_a_flood_of_errors_only_so_many_are_kept() -> None:
    async def main() -> Exchange:
        gate, whom = admitted()
        async with peers.answering() as asked:

            def refuse(source: tuple[str, int]) -> None:
                ours = packets.udp(source[1], asked.port, WORDS, source[0], HOST)
                for _ in range(100):  # more than are kept, fewer than the kernel's queue holds
                    peers.send_error(ROUTER, source[0], 3, 4, ours)

            asked.knows = refuse
            return await peers.ask(gate, whom, "udp", asked.port, TALK)

    found = run(main())
    assert sum(event.what == "icmp" for event in found.events) == 64


@pytest.fixture
def small_ears(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wire's socket holds a few packets only, as it would where millions come."""
    monkeypatch.setattr(wire, "_SO_RCVBUFFORCE", socket.SO_RCVBUF)
    monkeypatch.setattr(wire, "_KERNEL_BUFFER", 4096)


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.usefixtures("small_ears")
def test_a_silence_while_the_shared_socket_was_too_full_to_hear_is_left_to_sockets_of_their_own(kind: str) -> None:
    """The flood and the silent host share the socket: nobody can know whether the silent one answered."""

    async def main() -> list[Exchange | None]:
        gate, silent = admitted(VICTIM)
        gate.admit(peers.target(HOST))
        flooded = asyncio.Event()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as floods:
            floods.bind((HOST, 0))

            def flood() -> None:
                _, source = floods.recvfrom(1000)
                for _ in range(2000):  # in one turn of the loop: the engine cannot read meanwhile
                    floods.sendto(bytes(1000), source)
                flooded.set()

            asyncio.get_running_loop().add_reader(floods, flood)
            try:
                async with engine(gate):
                    make = probe("silent") if kind == "tcp" else TALK
                    asking = asyncio.create_task(ask(gate, silent, (kind, 5060, make)))
                    await ask(gate, peers.target(HOST), ("udp", floods.getsockname()[1], TALK))
                    assert flooded.is_set()
                    return await asking
            finally:
                asyncio.get_running_loop().remove_reader(floods)

    assert answers(run(main())) == [UNHEARD]
