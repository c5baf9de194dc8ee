"""TCP: whatever a peer does with a connection comes out as a value, and the record shows it."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta

import peers
import pytest
from peers import (
    CONNECT,
    NOON,
    SILENT,
    Clock,
    Serve,
    admitted,
    ask,
    everything,
    line,
    run,
    script,
    target,
)

from exposure_scan.conversation import Exchange, Send, StartTls
from exposure_scan.model import PortState
from exposure_scan.transport import Gate, knock

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


def saying(*pieces: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)
        await peers.wait_for_end(reader)

    return serve


async def close_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def greet_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GREETING + b"and half a li")
    writer.close()


async def greet_and_reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GREETING)
    await reader.read(100)
    peers.tear_down(writer)


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"\xff" * 65536)
        await writer.drain()


@pytest.mark.parametrize(
    ("serve", "first", "second"),
    [
        (silence, "silent b''", "silent b''"),
        (saying(GREETING), f"enough {GREETING!r}", "silent b''"),
        (saying(b"220 syn", b"thetic", b"\r\n"), f"enough {GREETING!r}", "silent b''"),
        (saying(b"220 half a li"), "silent b'220 half a li'", "silent b''"),
        (saying(GREETING, b"more"), f"enough {GREETING!r}", "silent b'more'"),
        (saying(bytes(range(256))), f"silent {bytes(range(256))!r}", "silent b''"),
        (close_at_once, "closed b''", "closed b''"),
        (endless, f"limit {FLOOD!r}", f"limit {FLOOD!r}"),
    ],
    ids=["silence", "a line", "crumbs", "half a line", "two lines", "garbage", "closes", "endless"],
)
def test_whatever_a_peer_does_is_told(serve: Serve, first: str, second: str) -> None:
    async def main() -> None:
        gate, whom = admitted()
        async with peers.serving(serve) as port:
            exchange = await ask(gate, whom, "tcp", port, TWICE)
        assert exchange.state is PortState.OPEN
        assert exchange.observation.notes[1:] == (first, second)

    run(main())


@pytest.mark.parametrize("pause", [0.3, 0.002], ids=["slow", "never at rest"])
def test_a_drip_does_not_outlast_the_wait(pause: float) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b".")
            await asyncio.sleep(pause)

    async def main() -> None:
        gate, whom = admitted()
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with peers.serving(drip) as port:
            exchange = await ask(gate, whom, "tcp", port, script(CONNECT, everything(1.2), everything(1.2)))
        assert loop.time() - began < 9  # of the loop
        for note in exchange.observation.notes[1:]:
            assert note.startswith("silent b'...")

    run(main())


def test_what_came_with_the_end_of_the_stream_is_kept() -> None:
    async def main() -> None:
        gate, whom = admitted()
        async with peers.serving(greet_and_close) as port:
            exchange = await ask(gate, whom, "tcp", port, script(CONNECT, everything(), everything()))
        assert exchange.observation.notes[1:] == (f"closed {GREETING + b'and half a li'!r}", "closed b''")

    run(main())


def test_a_reset_in_the_middle_ends_the_waits_and_swallows_the_words() -> None:
    async def main() -> None:
        gate, whom = admitted()
        talk = script(CONNECT, line(), Send(b"a word"), everything(), Send(b"another"), everything(), CONNECT, line())
        async with peers.serving(greet_and_reset) as port:
            exchange = await ask(gate, whom, "tcp", port, talk)
        notes = exchange.observation.notes
        assert notes[1:3] == (f"enough {GREETING!r}", "reset b''")
        assert notes[3].split()[0] in ("reset", "closed")
        assert notes[4].startswith("connected")
        assert notes[5] == f"enough {GREETING!r}"  # a new connection is a new beginning

    run(main())


def test_the_peer_gets_every_byte_in_order_and_then_the_end() -> None:
    got = bytearray()
    ended = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            got.extend(data)
            await asyncio.sleep(0)
        ended.set()

    async def main() -> None:
        gate, whom = admitted()
        word = bytes(range(256)) * 4096  # more than the kernel takes at once
        async with peers.serving(listen) as port:
            exchange = await ask(gate, whom, "tcp", port, script(CONNECT, Send(word), Send(b"the end")))
            await ended.wait()
        assert bytes(got) == word + b"the end"
        assert b"".join(event.data for event in exchange.events if event.what == "sent") == word + b"the end"

    run(main())


def test_a_peer_that_reads_nothing_holds_us_to_the_deadline_only() -> None:
    async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    async def main() -> None:
        gate, whom = Gate(clock=Clock()), target(rate=1e6, burst=20000)
        gate.admit(whom)
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with peers.serving(stuck) as port:
            talk = script(CONNECT, Send(bytes(8_000_000)), line(), Send(b"too late"), CONNECT)
            exchange = await ask(gate, whom, "tcp", port, talk, deadline=1)
        assert exchange.state is PortState.OPEN
        assert exchange.observation.notes[1:] == ("silent b''", "not connected: no-response")
        assert loop.time() - began < 60  # of the loop

    run(main())


def test_the_deadline_ends_every_wait_and_lets_nothing_more_out() -> None:
    got = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            got.extend(data)

    async def main() -> None:
        gate, whom = admitted()
        loop = asyncio.get_running_loop()
        async with peers.serving(listen) as port:
            began = loop.time()
            talk = script(CONNECT, everything(2), everything(1e6), Send(b"too late"), everything(1e6), StartTls(1e6))
            exchange = await ask(gate, whom, "tcp", port, talk, deadline=4)
            assert loop.time() - began < 5
            await asyncio.sleep(0.1)
        assert exchange.observation.notes[1:4] == ("silent b''",) * 3
        assert exchange.observation.notes[4] == "not secured: no-response"
        assert got == b""

    run(main())


def test_without_a_connection_nothing_is_said_and_every_wait_is_silent() -> None:
    async def main() -> None:
        gate, whom = admitted()
        talk = script(CONNECT, Send(b"a word"), everything(), StartTls(1), Send(b"x"), everything(), CONNECT)
        exchange = await ask(gate, whom, "tcp", peers.closed_port(socket.SOCK_STREAM), talk)
        assert exchange.state is PortState.CLOSED
        notes = exchange.observation.notes
        assert (notes[0], notes[1], notes[2]) == ("not connected: rst", "silent b''", "not secured: not connected")
        assert notes[-1] == "not connected: rst"
        assert not any(event.what == "sent" for event in exchange.events)

    run(main())


def test_a_conversation_that_never_connects_has_measured_nothing() -> None:
    async def main() -> None:
        gate, whom = admitted()
        exchange = await ask(gate, whom, "tcp", 25, script(Send(b"x"), everything()))
        assert answer_of(exchange) == ("unmeasured", "not-asked", None)

    run(main())


def test_the_record_has_the_time_of_day_and_the_times_between() -> None:
    async def main() -> None:
        clock = Clock()
        gate, whom = Gate(clock=clock), target()
        gate.admit(whom)
        clock.now += timedelta(minutes=5)
        async with peers.serving(saying(GREETING)) as port:
            exchange = await ask(gate, whom, "tcp", port, script(CONNECT, line(), Send(b"QUIT\r\n"), everything(2)))
        assert exchange.at == NOON + timedelta(minutes=5)
        assert [event.what for event in exchange.events] == ["asking", "connected", "received", "sent", "silent"]
        times = [event.ms for event in exchange.events]
        assert times == sorted(times)
        assert times[0] >= 0
        assert times[4] - times[3] == pytest.approx(2000, abs=500)

    run(main())


# --- how a connection ends ------------------------------------------------------------------------

_RST = 0x04


def resets(packets: list[bytes], port: int) -> int:
    """Resets that went to this port."""
    to_it = (raw for raw in packets if raw[9] == socket.IPPROTO_TCP and int.from_bytes(raw[22:24]) == port)
    return sum(bool(raw[33] & _RST) for raw in to_it)


async def never_ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await peers.wait_for_end(reader)
    await asyncio.Event().wait()


@pytest.mark.parametrize("way", ["a conversation", "a second connection", "a failed handshake", "a knock"])
def test_a_word_that_comes_after_our_end_meets_no_reset(way: str) -> None:
    scripts = {
        "a conversation": script(CONNECT),
        "a second connection": script(CONNECT, CONNECT),
        "a failed handshake": script(CONNECT, StartTls(0.05)),
    }

    async def main() -> int:
        gate, whom = admitted()
        told = asyncio.Event()

        async def late_word(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()  # until our end
            writer.write(b"a word after our end")
            writer.close()
            await writer.wait_closed()
            told.set()

        async with peers.wire() as seen, peers.serving(late_word) as port:
            if way == "a knock":
                assert (await knock(gate, whom, port)).state is PortState.OPEN
            else:
                await ask(gate, whom, "tcp", port, scripts[way])
            await told.wait()
            seen.read()
            return resets(seen.packets, port)

    assert run(main()) == 0


@pytest.mark.parametrize("lost", [False, True])
def test_a_knock_that_nobody_answers_is_silence_only_where_the_cable_was_in(
    lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> tuple[PortState, str]:
        gate, whom = admitted(SILENT)
        if lost:
            monkeypatch.setattr(gate.carriers, "held", lambda _: False)
        seen = await knock(gate, whom, 25)
        return seen.state, seen.reason

    silence, unheard = (PortState.FILTERED, "no-response"), (PortState.UNMEASURED, "local-error: no carrier")
    assert run(main()) == (unheard if lost else silence)


def test_a_peer_that_never_ends_is_waited_for_a_moment_only() -> None:
    async def main() -> float:
        gate, whom = admitted()
        loop = asyncio.get_running_loop()
        async with peers.serving(never_ends) as port:
            before = loop.time()
            await ask(gate, whom, "tcp", port, script(CONNECT))
            return loop.time() - before

    assert run(main()) < 2  # on the loop's clock, which skips what nobody uses
