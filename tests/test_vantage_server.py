"""What `vantage serve` gives to strangers: nothing, and never more than they sent. Everybody in it is synthetic."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from functools import partial

import pytest
from peers import run
from vantage_ends import (
    BEHIND6,
    HOST,
    HOST6,
    KEY,
    OTHER,
    PORT,
    PROXY,
    greet,
    hello,
    own_addresses,
    serve,
)

from exposure_scan import vantage
from exposure_scan.model import Problem
from exposure_scan.protocols.vantage import HELLO, answer


@pytest.fixture(scope="module", autouse=True)
def _addresses() -> None:
    own_addresses()


# --- what a stranger gets -------------------------------------------------------------------------


class Datagrams:
    """A socket at one address that sends to the server and keeps what comes back."""

    def __init__(self, address: str = HOST) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.sock.bind((address, 0))
        self.sock.connect((HOST, int(PORT.partition("/")[2])))
        self.source: tuple[str, int] = self.sock.getsockname()

    async def hear(self) -> bytes:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.sock, 65535), 5)

    def waiting(self) -> list[bytes]:
        found = []
        with suppress(BlockingIOError):
            while True:
                found.append(self.sock.recv(65535))
        return found

    async def last(self, number: int = 999) -> None:
        """One more true hello, and its answer: whatever was sent before has been decided on by then."""
        data = hello(number)
        self.sock.send(data)
        assert await self.hear() == answer(KEY, data, PORT, self.source)

    def __enter__(self) -> Datagrams:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


STRANGE = [
    b"",
    b"x",
    b"x" * HELLO,
    b"x" * 9000,
    b"OPTIONS sip:nm SIP/2.0\r\n\r\n",
    hello(1, key=OTHER),
    hello(1, port="udp/5061"),
    hello(1, port="tcp/5060"),
    hello(1)[:-1],
    hello(1) + b"\n",
    hello(1).replace(b"hello", b"seen "),
]


def test_a_datagram_of_a_stranger_meets_silence() -> None:
    async def main() -> None:
        async with serve([PORT]):
            with Datagrams() as us:
                for words in STRANGE:
                    us.sock.send(words)
                await us.last()
                assert us.waiting() == []

    run(main())


def test_an_answer_that_is_longer_than_what_was_asked_never_leaves() -> None:
    def too_long(words: bytes, _port: str, _source: tuple[str, int]) -> bytes:
        return b"a" * (HELLO + 1 if words.startswith(b"x") else HELLO)

    async def main() -> None:
        async with vantage.serving([PORT], too_long, HELLO, listen=HOST):
            with Datagrams() as us:
                us.sock.send(b"x" * HELLO)
                us.sock.send(b"y" * HELLO)
                assert await us.hear() == b"a" * HELLO
                assert us.waiting() == []

    run(main())


def test_a_copied_hello_is_answered_to_its_sender_alone() -> None:
    async def main() -> None:
        async with serve([PORT]):
            with Datagrams() as us, Datagrams(PROXY) as copier:
                us.sock.send(hello(1))
                first = await us.hear()
                copier.sock.send(hello(1))
                await copier.last()
                assert copier.waiting() == []
                us.sock.send(hello(1))  # the first answer may have been lost
                assert await us.hear() == first

    run(main())


def test_one_source_cannot_take_all_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vantage, "_QUESTIONS_PER_SOURCE", 3)

    async def main() -> None:
        async with serve([PORT]):
            with Datagrams() as flood, Datagrams(PROXY) as other:
                for number in range(40):
                    flood.sock.send(hello(number))
                await other.last()
                assert 3 <= len(flood.waiting()) <= 6  # the second may have turned in between

    run(main(), real_time=True)


def test_all_sources_together_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vantage, "_QUESTIONS", 3)

    async def main() -> int:
        async with serve([PORT]):
            with Datagrams() as us, Datagrams(PROXY) as other:
                for number in range(20):
                    us.sock.send(hello(number))
                    other.sock.send(hello(100 + number))
                await us.hear()
                await asyncio.sleep(0)
                return 1 + len(us.waiting()) + len(other.waiting())

    assert run(main(), real_time=True) <= 6


@pytest.mark.parametrize(("asked", "asker"), [(HOST, PROXY), (HOST6, BEHIND6)])
def test_a_machine_of_several_addresses_answers_from_the_one_that_was_asked(asked: str, asker: str) -> None:
    async def main() -> None:
        async with vantage.serving(["udp/4099"], partial(answer, KEY), HELLO):
            with socket.socket(socket.AF_INET6 if ":" in asked else socket.AF_INET, socket.SOCK_DGRAM) as us:
                us.setblocking(False)
                us.bind((asker, 0))
                us.connect((asked, 4099))
                words = hello(1, port="udp/4099")
                us.send(words)
                heard = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(us, 4096), 30)
                assert heard == answer(KEY, words, "udp/4099", us.getsockname()[:2])

    run(main())


STREAM = ["tcp/25"]


async def _connect(source: str = HOST) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, 25, local_addr=(source, 0))


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """Everything until the end, whichever way it comes."""
    try:
        return await asyncio.wait_for(reader.read(), 30)  # seconds; the end itself is what is awaited
    except ConnectionError:
        return b""


@pytest.mark.parametrize(
    "words",
    [b"", b"GET / HTTP/1.1\r\n\r\n", b"x" * 5000, hello(1, port="tcp/25")[:-1], hello(1, port="tcp/25", key=OTHER)],
    ids=["nothing", "a request", "a flood", "half a hello", "another key"],
)
def test_a_stream_of_a_stranger_is_closed_without_a_word(words: bytes) -> None:
    async def main() -> bytes:
        async with serve(STREAM):
            reader, writer = await _connect()
            writer.write(words)
            heard = await _rest(reader)
            writer.close()
            return heard

    assert run(main()) == b""


def test_a_hello_in_pieces_is_answered_and_nothing_after_it() -> None:
    async def main() -> tuple[bytes, tuple[str, int]]:
        async with serve(STREAM):
            reader, writer = await _connect()
            words = hello(1, port="tcp/25")
            for piece in (words[:7], words[7:100], words[100:] + words):
                writer.write(piece)
                await writer.drain()
            heard = await reader.readline()
            assert await _rest(reader) == b""
            source: tuple[str, int] = writer.get_extra_info("sockname")
            writer.close()
            return heard, source

    heard, source = run(main())
    assert heard == answer(KEY, hello(1, port="tcp/25"), "tcp/25", source)


@pytest.mark.parametrize(("bound", "other_is_served"), [("_CONNECTIONS_PER_SOURCE", True), ("_CONNECTIONS", False)])
def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch, bound: str, other_is_served: bool) -> None:
    monkeypatch.setattr(vantage, bound, 5)
    monkeypatch.setattr(vantage, "_PATIENCE", 3600)

    async def main() -> None:
        async with serve(STREAM):
            held = [await _connect() for _ in range(5)]
            for _, writer in held:
                writer.write(b"x")
                await writer.drain()
            reader, writer = await _connect()
            assert await _rest(reader) == b"", "the sixth is closed at once"
            writer.close()
            assert await _answered(PROXY) is other_is_served
            for _, writer in held:
                writer.transport.abort()
            while not await _answered(HOST):  # the places come back
                pass

    async def _answered(source: str) -> bool:
        reader, writer = await _connect(source)
        with suppress(ConnectionError):
            writer.write(hello(hash(writer), port="tcp/25"))
        heard = await _rest(reader)
        writer.close()
        return heard != b""

    run(main(), real_time=True)


def test_a_port_that_is_taken_is_told_and_the_rest_is_served() -> None:
    async def main() -> vantage.Serving:
        mail = await asyncio.start_server(greet, HOST, 25)
        async with mail, serve(["tcp/25", "udp/25", "tcp/26"]) as served:
            return served

    assert run(main()) == vantage.Serving(("udp/25", "tcp/26"), ("IPv4: Address already in use: tcp/25",))


@pytest.mark.parametrize(
    ("listen", "told"),
    [("localhost", "--listen: an address of this machine"), ("198.18.78.99", "Cannot assign requested address")],
)
def test_where_nothing_can_be_served_that_is_told(listen: str, told: str) -> None:
    async def main() -> None:
        with pytest.raises(Problem, match=told):
            async with serve(listen=listen):
                pass

    run(main())
