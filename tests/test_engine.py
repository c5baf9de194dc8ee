"""The engine: many questions over a few sockets, and the same answers as by a socket for each."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import peers
import pytest
from peers import CONNECT, HOST, HOST6, ROUTER, SILENT, Clock, admitted, anything, descriptors, probe, run, script

from exposure_scan import lab, scope, sweep
from exposure_scan.conversation import Conversation, Exchange, Send
from exposure_scan.model import Question, Scan, Target
from exposure_scan.sweep import Result
from exposure_scan.transport import Gate, NotAuthorized, engine
from exposure_scan.transport import gate as gates
from exposure_scan.transport.raw import Engine

Make = Callable[[], Conversation]


@pytest.fixture(scope="module", autouse=True)
def own_addresses() -> None:
    peers.own_addresses()


async def ask(gate: Gate, whom: Target, *items: tuple[str, int, Make]) -> list[Exchange | None]:
    """Ask all of these, and return what was told of each."""
    found: dict[int, Exchange | None] = {}
    questions = [Question(kind, port, "synthetic") for kind, port, _ in items]  # type: ignore[arg-type]
    async with engine(gate) as swift:
        await swift.ask(whom, questions, lambda number: items[number][2](), found.__setitem__)
    return [found[number] for number in range(len(items))]


def answers(exchanges: list[Exchange | None]) -> list[tuple[str, str, str | None] | None]:
    return [None if one is None else (str(one.state), one.reason, one.by) for one in exchanges]


TALK = script(CONNECT, Send(b"a word"), anything())


@pytest.mark.parametrize("host", [HOST, HOST6])
def test_open_closed_and_answering_ports_are_told_apart(host: str) -> None:
    async def main() -> list[Exchange | None]:
        gate, whom = admitted(host)
        async with peers.serving(peers_say_nothing, host) as port, peers.answering(lambda data: [data], host) as udp:
            return await ask(
                gate,
                whom,
                ("tcp", port, probe("silent")),
                ("tcp", peers.closed_port(socket.SOCK_STREAM, host), probe("silent")),
                ("udp", udp.port, TALK),
                ("udp", peers.closed_port(socket.SOCK_DGRAM, host), TALK),
            )

    found = run(main())
    assert answers(found) == [
        ("open", "syn-ack", host),
        ("closed", "rst", host),
        ("open", "udp-reply", host),
        ("closed", "icmp-port-unreachable", host),
    ]
    assert all(one is not None and one.tries == 1 and (one.rtt_ms or 0) < 1000 for one in found)


async def peers_say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


def syns(packets: list[bytes], host: str) -> int:
    wanted = socket.inet_aton(host)
    return sum(raw[9] == 6 and raw[16:20] == wanted and raw[33] & 0x3F == 2 for raw in packets)


def test_a_silent_port_is_asked_three_times_and_then_filtered() -> None:
    async def main() -> tuple[list[Exchange | None], list[bytes]]:
        gate, whom = admitted(SILENT)
        async with peers.wire() as seen:
            found = await ask(gate, whom, ("tcp", 25, probe("silent")))
            seen.read()
            return found, list(seen.packets)

    (found,), packets = run(main())
    assert found is not None
    assert (found.state, found.reason, found.by, found.tries) == ("filtered", "no-response", None, 3)
    assert syns(packets, SILENT) == 3
    assert [event.what for event in found.events] == ["asking", "asking", "asking", "not-connected"]
    assert found.events[0].detail == found.events[1].detail != found.events[2].detail  # from two ports of ours
    assert found.events[3].ms >= 1500  # spaced, and waited for


def test_a_routers_refusal_is_the_routers() -> None:
    async def main() -> list[Exchange | None]:
        gate, whom = admitted(SILENT)
        async with peers.router(3, 13, about=SILENT, says=ROUTER):
            return await ask(gate, whom, ("tcp", 25, probe("silent")), ("udp", 53, TALK))

    assert answers(run(main())) == [("filtered", "icmp-admin-prohibited", ROUTER)] * 2


def test_an_answer_from_elsewhere_is_left_to_a_socket_that_can_tell_it() -> None:
    async def main() -> list[Exchange | None]:
        gate, whom = admitted()
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
        ):
            asked.bind((HOST, 0))
            other.bind((HOST, 0))

            def answer() -> None:
                other.sendto(b"from another port", asked.recvfrom(100)[1])

            asyncio.get_running_loop().add_reader(asked, answer)
            try:
                return await ask(gate, whom, ("udp", asked.getsockname()[1], TALK))
            finally:
                asyncio.get_running_loop().remove_reader(asked)

    assert answers(run(main())) == [("unmeasured", "unheard", None)]


def test_an_answer_that_comes_while_the_next_try_waits_for_its_place_is_heard() -> None:
    """The first try's answer, late: it must count as it would on a socket that keeps it."""
    silent_then = script(CONNECT, Send(b"one"), anything(0.2), Send(b"two"), anything(0.2))

    async def main() -> tuple[list[Exchange | None], int]:
        gate, whom = Gate(clock=Clock()), peers.target(HOST, rate=1, burst=1)
        gate.admit(whom)
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
            host.bind((HOST, 0))
            heard: list[bytes] = []

            def answer_the_first_late() -> None:
                data, source = host.recvfrom(100)
                heard.append(data)
                if len(heard) == 1:  # after the first wait, and before the pace lets the second go
                    loop.call_later(0.5, host.sendto, b"late", source)

            loop.add_reader(host, answer_the_first_late)
            try:
                return await ask(gate, whom, ("udp", host.getsockname()[1], silent_then)), len(heard)
            finally:
                loop.remove_reader(host)

    (found,), _ = run(main())
    assert found is not None
    assert (found.state, found.reason) == ("open", "udp-reply")
    assert [event.what for event in found.events] == ["connected", "sent", "silent", "sent", "received"]


def test_a_late_answer_of_a_host_that_was_asked_before_is_no_strangers() -> None:
    """It must not drive the questions of other hosts off the shared socket."""

    async def main() -> list[Exchange | None]:
        gate, whom = admitted()
        other = peers.target(ROUTER)
        gate.admit(other)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
            host.bind((HOST, 0))
            ours: list[tuple[str, int]] = []

            def late(_: bytes) -> list[bytes]:
                """The other host has just been asked; now the first one speaks."""
                host.sendto(b"late", ours[0])
                return []

            async with engine(gate), peers.answering(late, ROUTER) as silent:  # one engine for both
                await ask(gate, whom, ("udp", host.getsockname()[1], script(CONNECT, Send(b"one"), anything(0.2))))
                ours.append(host.recvfrom(100)[1])
                return await ask(gate, other, ("udp", silent.port, TALK))

    assert answers(run(main())) == [("open|filtered", "no-response", None)]


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_way_out_that_stays_full_ends_and_measures_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOBUFS, "No buffer space available")

    async def main() -> list[Exchange | None]:
        gate, whom = admitted()
        for module in ("raw", "syns"):
            monkeypatch.setattr(f"exposure_scan.transport.{module}.DEADLINE", 0.1)
        monkeypatch.setattr("exposure_scan.transport.raw._Shared.emit", full)
        monkeypatch.setattr(Engine, "emit_syn", full)
        return await ask(gate, whom, (kind, 25, TALK if kind == "udp" else probe("silent")))

    assert answers(run(main())) == [("unmeasured", "local-error: No buffer space available", None)]


def test_errors_about_others_that_keep_coming_are_no_fault_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    closed, disturbed = peers.closed_port(socket.SOCK_DGRAM), 0
    sendmsg = gates._Socket.sendmsg

    def after_an_error(sock: socket.socket, *words: Any) -> int:
        nonlocal disturbed
        disturbed += 1
        if disturbed <= 5:  # somebody refuses another datagram in the same moment
            socket.socket.sendto(sock, b"another", (HOST, closed))
        return sendmsg(sock, *words)

    async def main() -> list[Exchange | None]:
        gate, whom = admitted()
        monkeypatch.setattr(gates._Socket, "sendmsg", after_an_error)
        async with peers.answering(lambda data: [data]) as udp:
            return await ask(gate, whom, ("udp", udp.port, TALK))

    assert answers(run(main())) == [("open", "udp-reply", HOST)]
    assert disturbed == 6


def test_the_same_port_twice_is_asked_once_here() -> None:
    async def main() -> list[Exchange | None]:
        gate, whom = admitted()
        closed = peers.closed_port(socket.SOCK_STREAM)
        return await ask(gate, whom, ("tcp", closed, probe("silent")), ("tcp", closed, probe("silent")))

    assert answers(run(main())) == [("closed", "rst", HOST), None]


def test_without_the_right_only_datagrams_are_asked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> list[Exchange | None]:
        gate, whom = admitted()
        monkeypatch.setattr(gate, "packet_capture", lambda: None)
        async with peers.answering(lambda data: [data]) as udp:
            return await ask(gate, whom, ("tcp", 25, probe("silent")), ("udp", udp.port, TALK))

    assert answers(run(main())) == [None, ("open", "udp-reply", HOST)]


def test_a_right_that_is_lost_in_the_middle_leaves_the_rest_to_the_ordinary_sockets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> list[Exchange | None]:
        gate, whom = admitted()
        monkeypatch.setattr(gate, "raw_syns", lambda *_: None)
        return await ask(gate, whom, ("tcp", 25, probe("silent")))

    assert run(main()) == [None]


def test_a_full_way_out_is_tried_again_and_counts_as_no_try(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = 0
    emit = Engine.emit_syn

    def full(self: Engine, packet: bytes, whom: Target) -> None:
        nonlocal refused
        refused += 1
        if refused <= 3:
            raise OSError(errno.ENOBUFS, "no room")
        emit(self, packet, whom)

    async def main() -> list[Exchange | None]:
        gate, whom = admitted()
        monkeypatch.setattr(Engine, "emit_syn", full)
        return await ask(gate, whom, ("tcp", peers.closed_port(socket.SOCK_STREAM), probe("silent")))

    (found,) = run(main())
    assert found is not None
    assert (found.state, found.tries) == ("closed", 1)


def test_what_cannot_be_sent_is_unmeasured_and_never_filtered(monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object) -> None:
        raise OSError(errno.ENETDOWN, "Network is down")

    async def main() -> list[Exchange | None]:
        gate, whom = admitted()
        monkeypatch.setattr(Engine, "emit_syn", down)
        return await ask(gate, whom, ("tcp", 25, probe("silent")))

    assert answers(run(main())) == [("unmeasured", "local-error: Network is down", None)]


def test_a_fault_in_a_conversation_loses_no_question() -> None:
    def broken() -> Conversation:
        yield CONNECT
        raise RuntimeError("synthetic")

    async def main() -> list[Exchange | None]:
        gate, whom = admitted()
        return await ask(gate, whom, ("udp", 53, broken), ("tcp", peers.closed_port(socket.SOCK_STREAM), broken))

    assert run(main()) == [None, None]


def test_nothing_is_sent_after_the_consent_has_ended() -> None:
    async def main() -> int:
        clock = Clock()
        gate, whom = Gate(clock=clock), peers.target(SILENT)
        gate.admit(whom)
        async with peers.wire() as seen:
            clock.now += timedelta(hours=2)
            with pytest.raises(NotAuthorized, match="ended"):
                await ask(gate, whom, ("tcp", 25, probe("silent")))
            seen.read()
            return syns(list(seen.packets), SILENT)

    assert run(main()) == 0


def test_consent_that_ends_in_the_middle_stops_it() -> None:
    async def main() -> int:
        clock = Clock()
        gate, whom = Gate(clock=clock), peers.target(SILENT, rate=10, burst=1)
        gate.admit(whom)
        async with peers.wire() as seen:

            def end(_: bytes) -> None:
                clock.now += timedelta(hours=2)

            seen.react = end
            with pytest.raises(NotAuthorized, match="ended"):
                await ask(gate, whom, *(("tcp", port, probe("silent")) for port in range(1000, 1050)))
            seen.read()
            return syns(list(seen.packets), SILENT)

    assert run(main()) <= 2


def test_the_pace_of_a_host_and_of_all_holds() -> None:
    async def main() -> float:
        gate = Gate(clock=Clock(), packets_per_second=50)
        whom = peers.target(HOST, rate=1000, burst=500)
        gate.admit(whom)
        loop = asyncio.get_running_loop()
        began = loop.time()
        closed = [peers.closed_port(socket.SOCK_STREAM) for _ in range(40)]
        await ask(gate, whom, *(("tcp", port, probe("silent")) for port in dict.fromkeys(closed)))
        return loop.time() - began

    assert run(main()) >= 0.5  # 40 packets at 50 a second, with a burst of 2 or 3, by the loop's own clock


def test_nothing_stays_open_when_it_is_cancelled() -> None:
    async def main() -> None:
        gate, whom = admitted(SILENT)
        task = asyncio.create_task(ask(gate, whom, ("tcp", 25, probe("silent")), ("udp", 53, TALK)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    before = descriptors()
    run(main())
    assert descriptors() == before


# --- both engines over the whole lab --------------------------------------------------------------


async def leave_all(
    _: Engine, __: Target, questions: list[Any], ___: object, told: Callable[[int, None], None]
) -> None:
    for number in range(len(questions)):
        told(number, None)


def scans() -> Iterator[tuple[str, Scan]]:
    async def main() -> list[Result]:
        return [
            result
            async for _, result in sweep.scan_sites(scope.read_sites_file(lab.sites_file()).orders)
            if isinstance(result, Result)
        ]

    for result in asyncio.run(main()):
        assert sweep.differences(result.scan, sweep.rederive(result.scan)) == []
        assert sweep.disagreements(result.scan, result.capture, "capture") == []
        yield result.scan.site.name, result.scan


def told(scan: Scan) -> object:
    """What a scan says, without what no two scans have alike."""
    hosts = [
        (
            host.address,
            host.alive.proven,
            host.echo,
            host.device.class_,
            [
                (port.key, port.state, port.reason, port.by, port.service, port.banner, port.product, port.notes)
                for port in host.ports
            ],
            [{field: said for field, said in port.said.items() if field != "sip.via"} for port in host.ports],
        )
        for host in scan.hosts
    ]
    return scan.verdict, hosts, [(finding.practice, finding.status, finding.because) for finding in scan.findings]


def test_with_the_privilege_and_without_the_same_is_said(practice_site: None, monkeypatch: pytest.MonkeyPatch) -> None:
    swift = dict(scans())
    monkeypatch.setattr(Engine, "ask", leave_all)
    monkeypatch.setattr(Gate, "packet_capture", lambda _: None)
    plain = dict(scans())
    assert swift.keys() == plain.keys()
    for site, scan in swift.items():
        assert told(scan) == told(plain[site]), site
        assert (scan.capture, plain[site].capture) == ("wire", "transcript")
