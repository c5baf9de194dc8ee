"""The gate: no packet without consent, at the agreed pace, through sockets that are all given back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import Literal

import peers
import pytest
from peers import CONNECT, HOST, NOON, Clock, admitted, anything, ask, everything, run, script, target

from exposure_scan.conversation import Observation, Reply, Request, Send
from exposure_scan.model import Problem, Question, Target
from exposure_scan.transport import Gate, NotAuthorized, converse

Transport = Literal["tcp", "udp", "icmp"]
PACKAGE = Path(__file__).parent.parent / "exposure_scan"
STRANGER = "198.18.77.99"  # nobody's, and never admitted
TALK = script(CONNECT, Send(b"a word"), everything(0.2))


@pytest.fixture(scope="module", autouse=True)
def own_addresses() -> None:
    peers.own_addresses()


# --- consent --------------------------------------------------------------------------------------


def never_admitted(gate: Gate, whom: Target, clock: Clock) -> None:
    gate.admit(target(HOST))  # another one is


def ended_since(gate: Gate, whom: Target, clock: Clock) -> None:
    gate.admit(whom)
    clock.now += timedelta(hours=1)


def replaced_by_one_that_ended(gate: Gate, whom: Target, clock: Clock) -> None:
    gate.admit(whom)
    gate.admit(target(str(whom), hours=0.5))
    clock.now += timedelta(minutes=30)


@pytest.mark.parametrize("transport", ["tcp", "udp", "icmp"])
@pytest.mark.parametrize("refused", [never_admitted, ended_since, replaced_by_one_that_ended])
def test_without_consent_no_packet_leaves(transport: Transport, refused: Callable[..., None]) -> None:
    async def main() -> None:
        clock, whom = Clock(), target(STRANGER)
        gate = Gate(clock=clock)
        refused(gate, whom, clock)
        async with peers.wire() as seen:
            port = 0 if transport == "icmp" else 5060
            with pytest.raises(NotAuthorized, match=STRANGER.replace(".", r"\.")):
                await ask(gate, whom, transport, port, TALK)
            for opening in (gate.tcp(whom, 5060), gate.udp(whom, 5060), gate.icmp(whom), gate.pace(whom)):
                with pytest.raises(NotAuthorized):
                    await opening
            with pytest.raises(NotAuthorized):
                gate.turn(whom, 0.0)
            assert seen.to(STRANGER) == []
            gate.admit(target(STRANGER, hours=99))  # the same words with consent: the wire would have shown them
            await ask(gate, whom, transport, port, TALK)
            assert seen.to(STRANGER) != []

    run(main())


@pytest.mark.parametrize(
    "whom",
    [
        target("198.51.100.10", by=""),
        target("198.51.100.10", by=" \t\n"),
        target("198.51.100.10", hours=0),
        target("198.51.100.10", hours=-1),
        target("224.0.0.1"),
        target("239.255.255.250"),
        target("ff02::1"),
        target("0.0.0.0"),
        target("::"),
    ],
    ids=lambda whom: f"{whom} by {whom.authorization.by!r} until {whom.authorization.until}",
)
def test_who_may_not_be_asked_is_not_admitted(whom: Target) -> None:
    gate = Gate(clock=Clock())
    with pytest.raises(NotAuthorized, match=f"{whom}"):
        gate.admit(whom)
    with pytest.raises(NotAuthorized):
        gate.turn(whom, 0.0)


def test_a_refusal_is_wrong_use_told_in_one_sentence() -> None:
    assert issubclass(NotAuthorized, Problem)
    with pytest.raises(NotAuthorized, match=r"ended at 2026-11-24 11:00:00\+00:00; renew it") as refused:
        Gate(clock=Clock()).admit(target(hours=-1))
    assert len(refused.value.sentences) == 1


def test_consent_without_an_end_lasts() -> None:
    clock = Clock()
    gate = Gate(clock=clock)
    gate.admit(target(hours=None))
    clock.now += timedelta(days=9999)
    gate.turn(target(hours=None), 0.0)


def test_an_ipv4_address_in_ipv6_dress_does_not_reach_the_ipv4_host() -> None:
    async def main() -> None:
        gate, whom = admitted(f"::ffff:{HOST}")
        async with peers.wire() as seen, peers.answering() as udp:
            for transport in ("tcp", "udp"):
                exchange = await ask(gate, whom, transport, udp.port, TALK)
                assert exchange.state == "unmeasured"
            assert seen.to(HOST) == []

    run(main())


@pytest.mark.parametrize("transport", ["tcp", "udp", "icmp"])
def test_consent_that_ends_in_the_middle_ends_the_conversation_within_a_second(transport: Transport) -> None:
    async def main() -> None:
        clock, loop = Clock(), asyncio.get_running_loop()
        whom = target(HOST if transport == "tcp" else peers.SILENT)
        gate = Gate(clock=clock)
        gate.admit(whom)
        under_way, gone = asyncio.Event(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await peers.wait_for_end(reader)
            gone.set()

        def talk() -> Generator[Request, Reply, Observation]:
            yield CONNECT
            yield Send(b"\x08\x00 a word")
            under_way.set()
            yield everything(3600)
            raise AssertionError("the consent had ended")

        async with peers.serving(serve) as port:
            question = Question(transport, 0 if transport == "icmp" else port, "synthetic")
            asking = asyncio.create_task(converse(gate, whom, question, talk(), deadline=7200))
            await under_way.wait()
            clock.now += timedelta(hours=1)
            ended = loop.time()  # of the loop, which skips the waits
            with pytest.raises(NotAuthorized, match="ended at"):
                await asking
            assert loop.time() - ended < 1
            if transport == "tcp":
                await gone.wait()

    run(main())


def test_consent_that_ends_while_a_syn_waits_for_its_answer_ends_the_attempt() -> None:
    async def main() -> None:
        clock, whom = Clock(), target(peers.SILENT)
        gate = Gate(clock=clock)
        gate.admit(whom)
        async with peers.wire() as seen:
            seen.react = lambda packet: setattr(clock, "now", NOON + timedelta(hours=1))
            with pytest.raises(NotAuthorized):
                await ask(gate, whom, "tcp", 25, TALK)
            assert len(seen.to(peers.SILENT)) == 1  # the hedge never went

    run(main())


def test_the_others_go_on_when_the_consent_of_one_ends() -> None:
    async def main() -> None:
        clock = Clock()
        gate = Gate(clock=clock)
        short, long = target(peers.SILENT, hours=1), target(HOST, hours=2)
        gate.admit(short)
        gate.admit(long)
        async with peers.answering() as udp:
            talk = script(CONNECT, Send(b"a word"), everything(5))
            asking = [
                asyncio.create_task(ask(gate, short, "udp", 9, talk, deadline=60)),
                asyncio.create_task(ask(gate, long, "udp", udp.port, talk, deadline=60)),
            ]
            await udp.heard.wait()
            clock.now += timedelta(hours=1)
            ended, going_on = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(ended, NotAuthorized)
        assert not isinstance(going_on, BaseException)
        assert going_on.observation.notes[-1] == "silent b''"

    run(main())


# --- places ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_service_gets_few_connections_at_once_and_all_their_turn(transport: Transport) -> None:
    async def main() -> None:
        gate, whom = Gate(clock=Clock(), connections_per_service=2), target()
        gate.admit(whom)
        at_once = most = 0

        def talk() -> Generator[Request, Reply, Observation]:
            nonlocal at_once, most
            yield CONNECT
            at_once += 1
            most = max(most, at_once)
            yield everything(0.1)
            at_once -= 1
            return Observation(banner="had its turn")

        async with peers.serving(lambda reader, writer: peers.wait_for_end(reader)) as port:
            asking = [converse(gate, whom, Question(transport, port, "synthetic"), talk()) for _ in range(7)]
            assert {exchange.observation.banner for exchange in await asyncio.gather(*asking)} == {"had its turn"}
        assert most == 2

    run(main())


def test_with_one_place_for_sockets_everything_is_asked_in_turn() -> None:
    async def main() -> None:
        gate, whom, silent = Gate(clock=Clock(), sockets=1), target(), target(peers.SILENT)
        gate.admit(whom)
        gate.admit(silent)
        async with peers.answering(lambda data: [data]) as udp:
            talk = script(CONNECT, Send(b"x"), anything())
            asking = [ask(gate, whom, "udp", udp.port, talk) for _ in range(4)]
            asking += [ask(gate, silent, "tcp", 25, script(CONNECT))]
            states = [exchange.state.value for exchange in await asyncio.gather(*asking)]
        assert states == ["open"] * 4 + ["filtered"]

    run(main())


# --- every socket is given back -------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp", "udp", "icmp"])
def test_wherever_a_conversation_is_cancelled_its_socket_and_its_place_are_given_back(transport: Transport) -> None:
    async def main(listener: socket.socket) -> None:
        gate, whom = Gate(clock=Clock(), sockets=2, connections_per_service=2), target()
        gate.admit(whom)
        word = Send(b"\x08\x00 a word")
        talk = script(CONNECT, word, CONNECT, word, CONNECT, word, everything(0.3))
        question = Question(transport, 0 if transport == "icmp" else listener.getsockname()[1], "synthetic")
        before = peers.descriptors()
        for steps in range(40):
            asking = asyncio.create_task(converse(gate, whom, question, talk()))
            for _ in range(steps):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)  # cancelled, or done by then
            assert peers.descriptors() == before, f"cancelled after {steps} steps"
        async with asyncio.timeout(30):  # the loop's seconds; a lost place would block for ever
            await asyncio.gather(*(converse(gate, whom, question, talk()) for _ in range(3)))

    with socket.create_server((HOST, 0), backlog=500) as listener:  # the kernel takes the connections; nobody speaks
        run(main(listener))


@pytest.mark.parametrize("transport", ["tcp", "udp", "icmp"])
def test_a_fault_of_the_conversation_comes_through_and_leaves_no_socket(transport: Transport) -> None:
    def faulty() -> Generator[Request, Reply, Observation]:
        yield CONNECT
        raise ZeroDivisionError

    async def main() -> None:
        gate, whom = admitted()
        async with peers.serving(lambda reader, writer: peers.wait_for_end(reader)) as port:
            with pytest.raises(ZeroDivisionError):
                await converse(gate, whom, Question(transport, 0 if transport == "icmp" else port, "x"), faulty())

    run(main())


def test_a_conversation_that_never_ends_is_ended() -> None:
    def endless() -> Generator[Request, Reply, Observation]:
        while True:
            yield everything(0.5)

    async def main() -> None:
        gate, whom = admitted()
        with pytest.raises(RuntimeError, match="without an end"):
            await converse(gate, whom, Question("udp", 9, "synthetic"), endless(), deadline=1)

    run(main())


def test_a_socket_that_this_machine_cannot_open_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        gate, whom = admitted()

        def full(*_: object) -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(gate, "_open", full)
        for transport, port in (("tcp", 25), ("udp", 53), ("icmp", 0)):
            exchange = await ask(gate, whom, transport, port, TALK)  # type: ignore[arg-type]
            assert (exchange.state.value, exchange.by, exchange.tries) == ("unmeasured", None, 0)
            assert exchange.reason == "local-error: Too many open files"

    run(main())
