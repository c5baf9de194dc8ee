"""The wide sweep against hosts that deceive it, and against those that only differ from the practice site."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import peers
import pytest
from conversations import CALLER, LOCAL, PEER, TOKEN, hold
from packet_hosts import Blocks, Drops, OnlyFirst, Seen, refuses, standing

from exposure_scan import plan, scope, sweep, transport
from exposure_scan.conversation import Connect, Connected, End, Heard, Receive, Send
from exposure_scan.lab.devices import Device, Service
from exposure_scan.lab.faults import Accepts, Fault
from exposure_scan.lab.services import serve
from exposure_scan.model import Finding, Host, Port, PortState, Problem, Scan, Status, Target, Verdict
from exposure_scan.protocols import conversation
from exposure_scan.report import load_scan
from exposure_scan.sweep import wide
from exposure_scan.sweep.knocks import MOST_ASKED_ON, read_ports
from exposure_scan.transport import Gate, Knock, consent, gate, pace

SWEPT = range(20000, 20500)
ANOTHER, DARK = "198.51.100.223", "198.51.100.224"  # nobody's, as peers.SILENT
MAIL = "server.voicemail-ports-moved"
UNUSED = "server.unused-services-off"


@pytest.fixture(autouse=True, scope="module")
def _few_ports() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "EVERY_PORT", SWEPT)
        patch.setattr(pace, "_LAG_STEP", 5.0)  # timers that stand in the way of skipping
        for module in (consent, gate):
            patch.setattr(module, "WATCH", 5.0)
        yield


async def scan_of(address: str, clock: Callable[[], datetime] = sweep.now, **words: Any) -> Scan:
    """A wide scan, held to what every scan promises: it comes out of its evidence, and out of its JSON, again."""
    order = scope.order_from_words([address], authorized_by="practice site", **words)
    scan = (await sweep.scan_site(replace(order, packets_per_second=1000.0), ports="wide", clock=clock)).scan
    assert sweep.differences(scan, sweep.rederive(scan)) == []
    assert load_scan(scan.to_json()) == scan
    accounted(scan.hosts[0])
    return scan


def accounted(host: Host) -> None:
    """Every port of the sweep stands in the result once, asked on or in a group."""
    groups = [read_ports(group.ports) for group in host.swept]
    assert [len(ports) for ports in groups] == [group.number for group in host.swept]
    found = [port for ports in groups for port in ports] + [port.port for port in moved(host)]
    assert sorted(found) == list(SWEPT)


def moved(host: Host) -> list[Port]:
    return [port for port in host.ports if port.transport == "tcp" and port.port in SWEPT]


def in_state(host: Host, state: PortState) -> set[int]:
    return {port for group in host.swept if group.state is state for port in read_ports(group.ports)}


def findings(scan: Scan) -> dict[str, Finding]:
    return {finding.practice: finding for finding in scan.findings}


def alone(*row: Fault, **words: Any) -> tuple[Scan, Seen]:
    """A scan of a host that is made of packets, in a loop that skips every wait in which nothing comes."""

    async def main() -> tuple[Scan, Seen]:
        async with standing(*row) as seen:
            return await scan_of(peers.SILENT, **words), seen

    return peers.run(main())


# --- everything is open ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tarpit() -> tuple[Scan, Seen]:
    return alone(Accepts(None), device="server", present="a practice technician (synthetic)")


def test_a_tarpit_is_talked_to_on_256_ports_and_the_rest_is_told_as_open(tarpit: tuple[Scan, Seen]) -> None:
    scan, seen = tarpit
    host = scan.hosts[0]
    asked = {port.port for port in moved(host)}
    assert len(asked) == MOST_ASKED_ON
    assert in_state(host, PortState.OPEN) == set(SWEPT) - asked
    assert {port for port in SWEPT if seen.connections(port) > 1} == asked
    assert not set(seen.words) & in_state(host, PortState.OPEN), "nothing is said to a port that is only knocked at"


def test_a_tarpit_is_a_go_for_nobody_and_no_breach_either(tarpit: tuple[Scan, Seen]) -> None:
    scan, _ = tarpit
    assert scan.verdict is Verdict.INCONCLUSIVE
    assert scan.hosts[0].path.middlebox is not None
    assert not scan.hosts[0].alive.proven
    assert {finding.practice for finding in scan.findings if finding.status is Status.NOT_MET} == set()
    assert findings(scan)[UNUSED].status is Status.CANNOT_TELL
    assert findings(scan)[MAIL].status is Status.CANNOT_TELL


def test_a_crowd_beyond_256_is_no_breach_though_the_plan_s_ports_refuse() -> None:
    crowd = frozenset(SWEPT[:300])
    scan, _ = alone(Accepts(crowd), refuses, device="server")
    host = scan.hosts[0]
    assert host.path.middlebox is not None
    assert "300 of 5" in host.path.middlebox  # the 500 of the sweep, and the plan's
    assert len(moved(host)) == MOST_ASKED_ON
    assert len(in_state(host, PortState.OPEN)) == 300 - MOST_ASKED_ON
    assert in_state(host, PortState.CLOSED) == set(SWEPT) - crowd
    assert findings(scan)[UNUSED].status is Status.CANNOT_TELL
    assert scan.verdict is Verdict.INCONCLUSIVE


# --- open for a moment ----------------------------------------------------------------------------


def test_a_reset_after_the_handshake_is_an_open_port_without_a_name() -> None:
    here = frozenset({20007, 20300, 20499})
    scan, _ = alone(Accepts(here, resets=True), refuses)
    host = scan.hosts[0]
    assert {port.port: (port.state, port.service) for port in moved(host)} == dict.fromkeys(
        here, (PortState.OPEN, None)
    )
    assert in_state(host, PortState.CLOSED) == set(SWEPT) - here
    assert findings(scan)[MAIL].status is not Status.NOT_MET
    assert "tcp/20007 (it does not say what)" in findings(scan)[UNUSED].because
    assert scan.verdict is not Verdict.GO


def test_a_port_that_takes_one_connection_and_no_more_is_open_and_says_so() -> None:
    here = frozenset({20123})
    scan, seen = alone(OnlyFirst(here), refuses)
    (port,) = moved(scan.hosts[0])
    assert (port.port, port.state, port.service) == (20123, PortState.OPEN, None)
    assert any("none after it" in note for note in port.notes)
    assert seen.connections(20123) > 1, "it was asked what it is"
    assert findings(scan)[UNUSED].status is Status.NOT_MET
    assert scan.verdict is not Verdict.GO


# --- everything is shut ---------------------------------------------------------------------------


def test_a_host_that_refuses_everything_is_one_group() -> None:
    scan, seen = alone(refuses, device="server")
    host = scan.hosts[0]
    (group,) = host.swept
    assert (group.state, group.reason, group.by, group.confidence) == (PortState.CLOSED, "rst", peers.SILENT, 1.0)
    assert group.ports == f"{SWEPT[0]}-{SWEPT[-1]}"
    assert all(seen.connections(port) == 1 for port in SWEPT), "a refusal ends the asking"
    assert findings(scan)[UNUSED].status is Status.MET
    assert host.path.dark is None


def test_the_order_of_the_knocks_is_no_neighbour_s_and_can_be_told_again() -> None:
    order: list[int] = []

    def passes(port: int) -> bool:
        order.append(port)
        return False

    scan, _ = alone(Blocks(passes), refuses)
    knocked = [port for port in order if port in SWEPT]
    assert sorted(knocked) == list(SWEPT)
    assert sum(abs(a - b) == 1 for a, b in itertools.pairwise(knocked)) < 30
    (token,) = {proof.token for proof in scan.evidence if proof.purpose == "sweep"}
    again = list(SWEPT)
    random.Random(token).shuffle(again)
    assert knocked == again


# --- silence, and who falls silent (in real time: the kernel repeats a SYN after a second) ---------


@dataclass(frozen=True)
class Silences:
    """Scans that wait for real, side by side."""

    firewall: Scan
    dark: Scan
    let_in: frozenset[int]  # ports whose SYN passed before the host began to block


DROPPED = frozenset(SWEPT[100:180])


@pytest.fixture(scope="module")
def silences() -> Silences:
    knocked = 0

    def after_200(port: int) -> bool:
        nonlocal knocked
        knocked += port in SWEPT
        return knocked > 200

    blocks = Blocks(after_200)

    async def main() -> Silences:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(standing(Drops(DROPPED), refuses, address=ANOTHER))
            await stack.enter_async_context(standing(blocks, Drops(DROPPED), refuses, address=DARK))
            firewall, dark = await asyncio.gather(
                scan_of(ANOTHER, device="server"),
                scan_of(DARK, device="server", present="a practice technician (synthetic)"),
            )
        return Silences(firewall, dark, frozenset(blocks.let_in))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wide, "_MOST", 40)
        patch.setattr(wide, "LOOK_PORTS", 50)
        return peers.run(main(), real_time=True)


def test_silence_of_everything_proves_nothing() -> None:
    scan = peers.run(scan_of(peers.SILENT), real_time=True)
    host = scan.hosts[0]
    (group,) = host.swept
    assert (group.state, group.reason, group.by, group.tries) == (PortState.FILTERED, "no-response", None, 2)
    assert group.confidence is not None
    assert 0.98 < group.confidence < 0.999
    assert findings(scan)[UNUSED].status is Status.CANNOT_TELL
    assert scan.verdict is Verdict.INCONCLUSIVE


def test_silence_of_a_host_that_is_there_counts_for_less_than_a_refusal(silences: Silences) -> None:
    host = silences.firewall.hosts[0]
    assert in_state(host, PortState.FILTERED) == DROPPED
    assert in_state(host, PortState.CLOSED) == set(SWEPT) - DROPPED
    found = findings(silences.firewall)[UNUSED]
    assert found.status is Status.MET
    looks = [proof for proof in silences.firewall.evidence if proof.purpose == "still-there"]
    assert len(looks) > 1, "it was looked in the middle, too"
    assert host.path.dark is None
    assert found.confidence == min(group.confidence for group in host.swept if group.confidence is not None) < 1


def test_who_begins_to_block_us_ends_the_sweep_there(silences: Silences) -> None:
    host = silences.dark.hosts[0]
    assert host.path.dark is not None
    unmeasured = in_state(host, PortState.UNMEASURED)
    assert set(SWEPT) - silences.let_in <= unmeasured, "whom nobody let in, nobody has measured"
    assert {group.reason for group in host.swept if group.state is PortState.UNMEASURED} == {"went-dark"}
    tries = {group.tries for group in host.swept if group.state is PortState.UNMEASURED}
    assert 0 in tries, "it stopped: some were never knocked at"
    assert unmeasured != set(SWEPT)
    assert findings(silences.dark)[UNUSED].status is Status.CANNOT_TELL
    assert silences.dark.verdict is not Verdict.GO


def test_silence_before_the_last_sign_of_life_still_counts(silences: Silences) -> None:
    host = silences.dark.hosts[0]
    assert in_state(host, PortState.FILTERED) <= DROPPED & silences.let_in
    assert in_state(host, PortState.CLOSED) == (set(SWEPT) & silences.let_in) - DROPPED


# --- what was moved -------------------------------------------------------------------------------

PAGE = b"HTTP/1.0 200 OK\r\nServer: synthetic\r\n\r\n<html><head><title>Synthetic page</title></head></html>\n"
SERVED: tuple[tuple[str, Service], ...] = tuple(
    (service.speaks, service)
    for service in (
        Service("tcp", 0, "smtp", b"220 mail.synthetic.invalid ESMTP ready\r\n"),
        Service("tcp", 0, "imap", b"* OK IMAP4rev1 ready\r\n"),
        Service("tcp", 0, "pop3", b"+OK POP3 ready\r\n"),
        Service("tcp", 0, "http", PAGE),
        Service("tcp", 0, "sip"),
        Service("tls", 0, "imap", b"* OK IMAP4rev1 ready\r\n"),
    )
)


def test_services_on_any_ports_are_found_and_named() -> None:
    peers.own_addresses()
    places = dict(zip(random.sample(SWEPT, len(SERVED)), SERVED, strict=True))  # any will do; a failure shows them
    services = tuple(replace(service, port=port) for port, (_, service) in places.items())

    async def main() -> Scan:
        async with serve([Device("synthetic", peers.HOST, (peers.HOST,), services)]):
            return await scan_of(peers.HOST)

    scan = peers.run(main())
    host = scan.hosts[0]
    assert {port.port: port.service for port in moved(host)} == {port: name for port, (name, _) in places.items()}
    assert {port.port: port.tls is not None for port in moved(host)} == {
        port: service.transport == "tls" for port, (_, service) in places.items()
    }
    assert in_state(host, PortState.CLOSED) == set(SWEPT) - set(places)
    assert host.sweep is not None
    assert set(host.sweep.found) == {f"tcp/{port}" for port in places}
    found = findings(scan)
    assert found[UNUSED].status is Status.NOT_MET
    assert all(f"tcp/{port} ({name})" in found[UNUSED].because for port, (name, _) in places.items())
    assert found[MAIL].status is not Status.NOT_MET, "mail was moved off its standard ports"


def test_a_mail_server_that_greets_after_six_seconds_is_not_spoken_to_before() -> None:
    talk = conversation("moved", TOKEN, CALLER)
    assert isinstance(next(talk), Connect)
    listens = talk.send(Connected(LOCAL, (PEER, 20025)))
    assert isinstance(listens, Receive), "nothing is said yet"
    assert listens.seconds > 6, "Postfix's postscreen waits six seconds"
    greeting = b"220 mail.synthetic.invalid ESMTP ready\r\n"
    assert listens.enough(greeting)
    says = talk.send(Heard(greeting, End.ENOUGH))
    assert isinstance(says, Send)
    assert says.data.startswith(b"EHLO ")


def test_whoever_says_nothing_is_first_listened_to_and_not_for_ever() -> None:
    talk = hold("moved", port=20025)
    assert [event.what for event in talk.events[:2]] == ["connected", "silent"], "not a word in the first connection"
    assert talk.connections <= 4
    assert talk.waited < 15


# --- consent, and faults of ours ------------------------------------------------------------------


def test_consent_that_ends_during_the_sweep_ends_the_scan_and_the_knocks() -> None:
    started = datetime(2026, 11, 24, 12, tzinfo=UTC)
    passed: list[int] = []

    def clock() -> datetime:
        return started + timedelta(hours=2 * (len(passed) > 100))

    def knocked(port: int) -> bool:
        passed.extend([port] if port in SWEPT else [])
        return False

    with pytest.raises(Problem, match="ended"):
        alone(Blocks(knocked), refuses, clock=clock, until="2026-11-24T13:00:00Z")
    assert len(passed) < 110, "a consent that has ended lets nothing pass"


def test_a_fault_of_ours_is_unmeasured_and_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = frozenset(SWEPT[10:14])

    async def knock(gate_: Gate, target: Target, port: int) -> Knock:
        if port in broken:
            raise ValueError("synthetic fault")
        return await transport.knock(gate_, target, port)

    monkeypatch.setattr(wide, "knock", knock)
    scan, _ = alone(refuses, device="server")
    assert in_state(scan.hosts[0], PortState.UNMEASURED) == broken
    assert in_state(scan.hosts[0], PortState.CLOSED) == set(SWEPT) - broken
    assert findings(scan)[UNUSED].status is Status.CANNOT_TELL
    assert scan.verdict is not Verdict.GO


def test_a_fault_that_passes_is_knocked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    failed: set[int] = set()

    async def knock(gate_: Gate, target: Target, port: int) -> Knock:
        if port not in failed and port in SWEPT[10:14]:
            failed.add(port)
            raise ValueError("synthetic fault")
        return await transport.knock(gate_, target, port)

    monkeypatch.setattr(wide, "knock", knock)
    scan, _ = alone(refuses)
    assert len(failed) == 4
    assert in_state(scan.hosts[0], PortState.CLOSED) == set(SWEPT)
