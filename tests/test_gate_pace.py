"""The gate's pace, and how long it says that an answer is worth waiting for."""

from __future__ import annotations

import asyncio
import socket

import peers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import CONNECT, HOST, SILENT, Clock, Make, admitted, anything, ask, run, script, target

from exposure_scan.conversation import Receive, Send
from exposure_scan.transport import Gate
from exposure_scan.transport.pace import Bucket, Lag


@pytest.fixture(scope="module", autouse=True)
def own_addresses() -> None:
    peers.own_addresses()


# --- pace -----------------------------------------------------------------------------------------


@given(
    rate=st.floats(0.1, 1000),
    burst=st.floats(1, 100),
    wishes=st.lists(st.tuples(st.floats(0, 10), st.integers(1, 150)), max_size=60),
)
def test_no_window_of_time_passes_more_than_the_burst_and_what_flowed_in(
    rate: float, burst: float, wishes: list[tuple[float, int]]
) -> None:
    bucket, now = Bucket(rate, burst), 0.0
    passed: list[tuple[float, int]] = []
    for pause, cost in wishes:
        now += pause
        wait = bucket.take(now, cost)
        if wait == 0:
            passed.append((now, cost))
            continue
        assert wait > 0
        assert bucket.take(now + wait, cost) == 0  # the wait that it names is enough
        now += wait
        passed.append((now, cost))
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            window = passed[first : last + 1]
            most = max(burst, *(cost for _, cost in window))  # what costs more than a burst passes alone
            assert sum(cost for _, cost in window) <= most + rate * (window[-1][0] - window[0][0]) + 1e-3


def test_a_bucket_gives_its_burst_at_once_and_then_waits_for_the_rate() -> None:
    bucket = Bucket(rate=10, burst=3)
    assert [bucket.take(5, 1) for _ in range(4)] == [0, 0, 0, pytest.approx(0.1)]
    assert bucket.take(5.05, 1) == pytest.approx(0.05)  # asking took nothing
    assert bucket.take(5.1, 1) == 0
    assert bucket.take(500, 3) == 0
    assert bucket.take(500, 1) > 0  # a long silence saves up no more than the burst


def test_all_conversations_with_a_host_share_its_pace() -> None:
    rate, burst, count = 1.0, 3, 9

    async def main() -> list[float]:
        gate, whom = Gate(clock=Clock()), target(rate=rate, burst=burst)
        gate.admit(whom)
        async with peers.answering(lambda data: [data]) as udp:
            talk = script(CONNECT, Send(b"one"), anything(), Send(b"two"), anything(), Send(b"three"), anything())
            asked = [ask(gate, whom, "udp", udp.port, talk, deadline=2) for _ in range(count // 3)]
            for exchange in await asyncio.gather(*asked):
                assert exchange.observation.notes[1:] == ("enough b'one'", "enough b'two'", "enough b'three'")
            return [at for at, _ in udp.got]  # on the loop's clock, which skips the waits

    times = run(main())
    assert len(times) == count
    for first in range(count):
        for last in range(first, count):
            assert last - first + 1 <= burst + rate * (times[last] - times[first]) + 0.5


def test_a_large_send_costs_as_many_packets_as_it_fills() -> None:
    async def main() -> None:
        gate, whom = Gate(clock=Clock()), target(rate=1, burst=10)
        gate.admit(whom)
        loop = asyncio.get_running_loop()
        for size, waits in ((1460 * 10, 0), (1460, 1), (1461, 2), (1, 1), (0, 1)):
            before = loop.time()
            await gate.pace(whom, size)
            assert loop.time() - before == pytest.approx(waits, abs=0.5)

    run(main())


def test_one_host_that_waits_for_its_pace_does_not_hold_up_another() -> None:
    async def main() -> None:
        gate, slow, other = Gate(clock=Clock()), target(peers.SILENT, rate=0.1, burst=1), target(HOST)
        gate.admit(slow)
        gate.admit(other)
        await gate.pace(slow)
        waiting = asyncio.create_task(gate.pace(slow))
        async with peers.answering(lambda data: [data]) as udp:
            exchange = await ask(gate, other, "udp", udp.port, script(CONNECT, Send(b"x"), anything()))
        assert exchange.state == "open"
        assert not waiting.done()
        await waiting

    run(main())


def test_admitting_anew_does_not_refill_the_pace() -> None:
    async def main() -> None:
        gate, whom, loop = Gate(clock=Clock()), target(rate=0.5, burst=1), asyncio.get_running_loop()
        gate.admit(whom)
        await gate.pace(whom)
        gate.admit(whom)
        before = loop.time()
        await gate.pace(whom)
        assert loop.time() - before > 1.5

    run(main())


def test_what_went_without_asking_is_paid_for_by_the_next() -> None:
    bucket = Bucket(rate=2, burst=3)
    assert bucket.take(0, 1) == 0
    bucket.owe(4)
    assert bucket.take(0, 1) == pytest.approx(1.5)
    assert bucket.take(1.5, 1) == 0


def test_the_syns_that_the_kernel_repeats_are_paid_for() -> None:
    async def main() -> None:
        gate, whom, loop = Gate(clock=Clock()), target(SILENT, rate=0.5, burst=10), asyncio.get_running_loop()
        gate.admit(whom)
        await ask(gate, whom, "tcp", 25, script(CONNECT))  # two attempts, and what the kernel repeats of each
        began = loop.time()
        await gate.pace(whom, 1460 * 7)
        assert 1 < loop.time() - began < 4  # 2 went with leave and 3 without; 1.2 flowed in meanwhile

    run(main())


# --- patience -------------------------------------------------------------------------------------


def test_an_unknown_path_is_waited_for_in_full_and_a_known_one_as_it_needs() -> None:
    gate, whom = admitted()
    gate.admit(other := target(SILENT))
    assert gate.patience(whom, 2.4) == 2.4
    gate.note_rtt(whom, 0.0001)
    assert gate.patience(whom, 2.4) == pytest.approx(0.4)  # however short the path
    assert gate.patience(whom, 0.1) == 0.1  # never more than was asked for
    assert gate.patience(other, 2.4) == 2.4  # one host says nothing of another
    for _ in range(50):
        gate.note_rtt(whom, 0.3)
    assert 3 * 0.3 <= gate.patience(whom, 2.4) < 2.4
    gate.note_rtt(whom, 2.0)  # one that was much longer: the path is not to be trusted
    assert gate.patience(whom, 2.4) == 2.4


def wait_for(seconds: float, *, prompt: bool) -> Make:
    return script(CONNECT, Send(b"a word"), Receive(lambda data: data == b"a word", seconds, prompt=prompt))


@pytest.mark.parametrize(
    ("known", "prompt", "least", "most"), [(True, True, 0.4, 5), (True, False, 10, 15), (False, True, 10, 15)]
)
def test_only_a_prompt_answer_of_a_known_path_is_given_up_sooner(
    known: bool, prompt: bool, least: float, most: float
) -> None:
    async def main() -> None:
        gate, whom = admitted()
        loop = asyncio.get_running_loop()
        async with peers.answering(lambda data: [data]) as known_peer, peers.answering() as silent:
            if known:
                await ask(gate, whom, "udp", known_peer.port, wait_for(1, prompt=True))
            began = loop.time()
            exchange = await ask(gate, whom, "udp", silent.port, wait_for(10, prompt=prompt))
            assert least <= loop.time() - began < most
        assert exchange.observation.notes[1] == "silent b''"

    run(main())


@pytest.mark.parametrize("says", ["syn-ack", "rst"])
def test_tcp_silence_of_a_known_host_still_takes_three_syns(says: str) -> None:
    async def main() -> None:
        gate, whom = admitted()
        with socket.create_server((HOST, 0)) as listener, peers.deaf_port(HOST) as deaf:
            port = listener.getsockname()[1] if says == "syn-ack" else peers.closed_port(socket.SOCK_STREAM)
            assert (await ask(gate, whom, "tcp", port, script(CONNECT))).reason == says
            async with peers.wire() as seen:
                exchange = await ask(gate, whom, "tcp", deaf, script(CONNECT))
                syns = [packet for packet in seen.to(HOST) if packet[22:24] == deaf.to_bytes(2)]
                assert exchange.tries == len(syns) >= 3
        assert exchange.state.value == "filtered"

    run(main(), real_time=True)  # the kernel's repetitions take the time that they take


def test_a_scan_notices_only_the_lateness_of_its_own_time() -> None:
    """In a sweep one late moment must not spoil the silences of all sites that come after it."""

    async def main() -> tuple[float, float]:
        lag = Lag()
        async with lag.measured():
            with lag.noticed() as first:
                await asyncio.sleep(0.06)  # the measuring has begun
                asyncio.get_running_loop().skips.skipped += 5  # type: ignore[attr-defined]
                await asyncio.sleep(0.06)
            with lag.noticed() as second:
                await asyncio.sleep(0.06)
        return first.worst, second.worst

    first, second = run(main())
    assert first > 4 > second
