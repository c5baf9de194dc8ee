"""The gate under attack: consent that ends in the middle, clocks that are turned, files that change, and the stop file.

Judged by a witness of the wire that shares nothing with the product.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from shutil import which
from typing import Any

import packet_hosts
import peers
import pytest
import samples
from mail_server import Answer, serving
from peers import CONNECT, SILENT, Clock, ask, everything, script, target
from witness import Sight, Witness, watching

from exposure_scan import scope, sweep
from exposure_scan.conversation import Observation, Reply, Request, Send
from exposure_scan.history.store import Store, open_store
from exposure_scan.lab.faults import Accepts, Passing, Way
from exposure_scan.lab.network import add_address
from exposure_scan.lab.packets import RST, SYN, read
from exposure_scan.model import Port, PortState, Problem, Question, Target
from exposure_scan.sweep import nightly, second
from exposure_scan.transport import Gate, NotAuthorized, converse

HOSTS = [f"198.18.96.{number}" for number in range(1, 7)]
QUIET = [f"198.51.100.{number}" for number in range(223, 231)]  # nobody's
WITHIN = 1.0  # seconds after which nothing may leave
SLACK = 1.0  # seconds for a machine that is busy


@pytest.fixture(scope="module", autouse=True)
def addresses() -> None:
    peers.own_addresses()
    for host in HOSTS:
        add_address(host)
    asyncio.run(sweep.scan_site(order("warm", HOSTS[0])))  # what is loaded at the first scan takes a while


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with open_store(f"sqlite:///{tmp_path / 'history.sqlite3'}") as opened:
        yield opened


def order(name: str, *targets: str, until: datetime | None = None) -> scope.Order:
    made = scope.order_from_words(targets, authorized_by="Synthetic owner", name=name)
    return replace(made, authorization=made.authorization.model_copy(update={"until": until}))


def nothing_late(sights: list[Sight], end: float) -> None:
    """There were packets, and none more than a second after the end."""
    assert sights != []
    assert [sight.at - end for sight in sights if sight.at > end + WITHIN + SLACK] == []


# --- consent that ends in the middle --------------------------------------------------------------


def with_the_engine(_: pytest.MonkeyPatch) -> None:
    """SYNs over raw sockets, as with the privilege."""


def with_ordinary_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without the privilege."""
    monkeypatch.setattr(Gate, "raw_syns", lambda *_: None)
    monkeypatch.setattr(Gate, "packet_capture", lambda *_: None)


class Turned:
    """A clock that is true when the scan begins, and set back by more than a year right after."""

    def __init__(self) -> None:
        self.looks = 2  # of the gate, and of what asks for the addresses

    def __call__(self) -> datetime:
        self.looks -= 1
        return datetime.now(UTC) - timedelta(days=400 if self.looks < 0 else 0)


@pytest.mark.parametrize("way", [with_the_engine, with_ordinary_sockets])
def test_a_scan_whose_consent_ends_sends_nothing_a_second_later(
    way: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    way(monkeypatch)
    until = datetime.now(UTC) + timedelta(seconds=0.8)

    async def both() -> list[object]:
        orders = [order("short", address, until=until) for address in QUIET[:2]]
        clocks: tuple[Callable[[], datetime], ...] = (sweep.now, Turned())
        scans = (sweep.scan_site(one, clock=clock) for one, clock in zip(orders, clocks, strict=True))
        return list(await asyncio.gather(*scans, return_exceptions=True))

    with watching() as witness:
        ends = asyncio.run(both())
        assert [(type(end), "ended at" in str(end)) for end in ends] == [(NotAuthorized, True)] * 2
        time.sleep(max(0.0, until.timestamp() + WITHIN + SLACK + 0.5 - time.time()))  # the kernel may have more to say
        for address in QUIET[:2]:
            nothing_late(witness.to(address), until.timestamp())


@pytest.mark.skipif(which("nmap") is None, reason="nmap is not installed")
def test_nmap_is_ended_with_the_consent() -> None:
    until = datetime.now(UTC) + timedelta(seconds=1.5)
    whom = replace(target(SILENT, rate=50), authorization=order("x", SILENT, until=until).authorization)
    ports = tuple(
        Port(transport="tcp", port=number, state=PortState.FILTERED, reason="no-response", tries=3)
        for number in range(1000, 1400)
    )
    host = samples.silent_site().hosts[0].model_copy(update={"address": SILENT, "ports": ports})

    async def main() -> str:
        gate = Gate()
        async with gate.admitted([whom]):
            return (await second.second_opinion(gate, [(whom, host)])).trouble or ""

    with watching() as witness:
        assert "ended at" in asyncio.run(main())
        time.sleep(max(0.0, until.timestamp() + WITHIN + SLACK + 0.5 - time.time()))
        nothing_late(witness.to(SILENT), until.timestamp())


def falls_silent(way: Way, raw: bytes, _now: float) -> Iterable[Passing]:
    """Lets the first packet of a connection through, and what answers it; then nothing more."""
    packet = read(raw)
    mute = way is Way.OUT and packet is not None and packet.segment is not None and not packet.segment.flags & SYN
    return [] if mute else [Passing(0, way, raw)]


def _real(main: Coroutine[Any, Any, None]) -> None:
    peers.run(main, real_time=True)


@pytest.mark.parametrize("how", ["ended", "stopped"])
def test_the_kernel_repeats_no_word_of_a_connection_whose_consent_has_ended(how: str) -> None:
    """The host took the connection and then fell silent: what it never confirmed would be repeated for minutes."""

    async def main() -> None:
        clock, whom, said = Clock(), target(SILENT), asyncio.Event()
        gate = Gate(clock=clock)
        gate.admit(whom)

        def talk() -> Generator[Request, Reply, Observation]:
            yield CONNECT
            yield Send(b"a word")
            said.set()
            yield everything(30)
            raise AssertionError("it had ended")

        async with packet_hosts.standing(falls_silent, Accepts(None)):
            with watching() as witness:
                asking = asyncio.create_task(converse(gate, whom, Question("tcp", 25, "synthetic"), talk()))
                await said.wait()
                if how == "ended":
                    clock.now += timedelta(hours=1)
                    with pytest.raises(NotAuthorized):
                        await asking
                else:
                    gate.stop()
                    asking.cancel()
                    await asyncio.gather(asking, return_exceptions=True)
                end = time.time()
                await asyncio.sleep(1.5)
                late = [read(sight.packet) for sight in witness.to(SILENT) if sight.at > end]
                assert [one for one in late if one and one.segment and not one.segment.flags & RST] == []

    _real(main())


def test_the_end_of_a_connection_that_nobody_confirms_is_repeated_for_a_second_at_most() -> None:
    async def main() -> None:
        whom = target(SILENT)
        gate = Gate(clock=Clock())
        gate.admit(whom)
        async with packet_hosts.standing(falls_silent, Accepts(None)):
            with watching() as witness:
                await ask(gate, whom, "tcp", 25, script(CONNECT, Send(b"a word"), everything(0.1)))
                end = time.time()
                await asyncio.sleep(WITHIN + SLACK + 3)  # without a limit the kernel repeats it after 3 seconds again
                nothing_late(witness.to(SILENT), end)

    _real(main())


# --- clocks ---------------------------------------------------------------------------------------


class Clocks:
    """The time of day, which anybody may set, and the seconds of the machine, which nobody may."""

    def __init__(self) -> None:
        self.wall, self.steady = peers.NOON, 1000.0
        self.gate = Gate(clock=lambda: self.wall, steady=lambda: self.steady)
        self.gate.admit(target(hours=1))

    def pass_(self, minutes: float) -> None:
        self.wall += timedelta(minutes=minutes)
        self.steady += minutes * 60

    def live(self) -> bool:
        try:
            self.gate.turn(target(), 0.0)
        except NotAuthorized:
            return False
        return True


def test_consent_that_was_seen_to_end_stays_ended_when_the_clock_is_set_back() -> None:
    clocks = Clocks()
    clocks.pass_(61)
    assert not clocks.live()
    clocks.wall -= timedelta(days=3)
    assert not clocks.live()
    with pytest.raises(NotAuthorized, match="ended at"):
        clocks.gate.admit(target(hours=1))


def test_consent_ends_in_its_time_although_the_clock_was_set_back_before() -> None:
    clocks = Clocks()
    clocks.pass_(30)
    clocks.wall -= timedelta(days=3)
    assert clocks.live()
    clocks.pass_(29)
    assert clocks.live()
    clocks.pass_(2)
    assert not clocks.live()


def test_consent_ends_in_its_time_when_the_clock_stands_still() -> None:
    clocks = Clocks()
    clocks.steady += 3599
    assert clocks.live()
    clocks.steady += 2
    assert not clocks.live()


def test_a_clock_that_is_set_forward_is_believed_and_what_it_ended_stays_ended() -> None:
    clocks = Clocks()
    clocks.wall += timedelta(days=3)
    assert not clocks.live()
    clocks.wall -= timedelta(days=3)
    assert not clocks.live()
    clocks.gate.admit(target(hours=24 * 4))  # a consent that lasts beyond that day lets us go on
    assert clocks.live()


# --- the stop file --------------------------------------------------------------------------------


def test_a_stop_file_in_the_middle_of_a_scan_lets_no_further_packet_out(store: Store, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    orders = [order(f"site {address}", address) for address in QUIET]
    stopped: list[float] = []

    def touch(witness: Witness) -> None:
        witness.wait_for(*QUIET, packets=20)
        stop.symlink_to("nowhere")  # a link counts as well
        stopped.append(time.time())

    with watching() as witness:
        watcher = threading.Thread(target=touch, args=(witness,))
        watcher.start()
        settings = nightly.Settings(tmp_path / "out", everything=True, stop_file=stop)
        found = asyncio.run(nightly.sweep(orders, store, settings))
        watcher.join()
        time.sleep(1)
        assert (found.stopped, found.ended) == (True, [])
        nothing_late(witness.to(*QUIET), stopped[0] - 0.5)  # it is looked for five times a second
    assert len(store.left_of(store.begin_run([], datetime.now(UTC))[0])) == len(QUIET), "all of them wait, none failed"


def test_a_stop_file_that_nobody_can_look_for_stops(tmp_path: Path) -> None:
    from exposure_scan.sweep.waiting import stop_wanted

    assert not stop_wanted(None)
    assert not stop_wanted(tmp_path / "stop")
    assert not stop_wanted(tmp_path / "no folder" / "stop")
    (tmp_path / "stop").touch()
    assert stop_wanted(tmp_path / "stop")
    assert not stop_wanted(tmp_path / "stop" / "stop")
    assert stop_wanted(tmp_path / ("x" * 300))


SITE = """
[[site]]
name = "{name}"
targets = ["{target}"]
report_to = ["owner@customer.example"]
authorization = {{ by = "a test" }}
"""
MAIL = """
[partner]
name = "Synthetic partner"
mail = "noc@partner.example"
[mail]
host = "127.0.0.1"
port = {port}
security = "none"
"""


def command(folder: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
    line = [sys.executable, "-m", "exposure_scan", "sweep", "--sites", "sites.toml", "--all", "--out", "out", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def history_of(folder: Path) -> AbstractContextManager[Store]:
    return open_store(f"sqlite:///{folder / 'state' / 'exposure-scan' / 'history.sqlite3'}")


@pytest.mark.parametrize("step", ["EHLO", "RCPT", "BODY"])
def test_a_stop_file_during_mail_lets_no_further_word_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    stop = tmp_path / "stop"
    with serving(tls="none", login=False) as server:
        sites = [SITE.format(name=f"site {number}", target=host) for number, host in enumerate(HOSTS)]
        (tmp_path / "sites.toml").write_text(MAIL.format(port=server.port) + "".join(sites))
        told = server.next

        def touching(step_: str) -> Answer | None:
            if step_ == step:
                stop.touch()
            return told(step_)

        monkeypatch.setattr(server, "next", touching)
        process = command(tmp_path, "--stop-file", "stop", "--attach", "none")
        said, trouble = process.communicate(timeout=120)
        assert process.returncode == 0, trouble
        verbs = server.verbs(1)
    assert "0 mail(s) sent." in said
    assert "stopped by the stop file; the mail that is left waits." in trouble
    assert server.accepted == []
    assert verbs == {"EHLO": ["EHLO"], "RCPT": ["EHLO", "MAIL", "RCPT"], "BODY": ["EHLO", "MAIL", "RCPT", "DATA"]}[step]
    assert server.connections == 1
    with history_of(tmp_path) as store:
        assert {(piece.state, piece.tries) for piece in store.outbox.pieces("queued", "sending", "refused")} == {
            ("queued", 0)
        }


def test_a_sweep_that_was_stopped_sends_no_mail_of_what_it_had_done(tmp_path: Path) -> None:
    with serving(tls="none", login=False) as server:
        sites = [("done", HOSTS[0]), *((f"site {one}", one) for one in QUIET)]
        text = "".join(SITE.format(name=name, target=address) for name, address in sites)
        (tmp_path / "sites.toml").write_text(MAIL.format(port=server.port) + text)
        process = command(tmp_path, "--stop-file", "stop", "--rate", "300")
        deadline = time.monotonic() + 60
        while not (tmp_path / "out" / "done").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        with history_of(tmp_path) as store:
            while "done" not in store.last_scans() and time.monotonic() < deadline:
                time.sleep(0.01)
            (tmp_path / "stop").touch()
            _, trouble = process.communicate(timeout=120)
            assert "stopped by the stop file; the next sweep goes on" in trouble
            assert [(piece.site, piece.state, piece.tries) for piece in store.outbox.pieces("queued")] == [
                ("done", "queued", 0)
            ]
    assert server.connections == 0


# --- files that change meanwhile ------------------------------------------------------------------


def test_a_sites_file_that_is_swapped_during_a_sweep_sends_nothing_elsewhere(tmp_path: Path) -> None:
    astray = "198.18.96.77"
    (tmp_path / "true.toml").write_text("".join(SITE.format(name=f"site {one}", target=one) for one in QUIET[:3]))
    (tmp_path / "false.toml").write_text("".join(SITE.format(name=f"site {one}", target=astray) for one in QUIET[:3]))
    (tmp_path / "sites.toml").symlink_to("true.toml")
    with watching() as witness:
        process = command(tmp_path, "--no-mail")
        witness.wait_for(*QUIET[:3])
        (tmp_path / "link").symlink_to("false.toml")
        (tmp_path / "link").replace(tmp_path / "sites.toml")
        said, trouble = process.communicate(timeout=120)
        assert "3 site(s) done" in said, trouble
        assert witness.to(astray) == []


@pytest.mark.parametrize("planted", ["link", "file", "dead link"])
def test_a_link_in_the_place_of_a_sites_folder_is_that_sites_failure_alone(
    store: Store, tmp_path: Path, planted: str
) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    if planted == "file":
        (out / "two").write_text("of somebody else")
    else:
        (out / "two").symlink_to(elsewhere if planted == "link" else "nowhere")
    orders = [order("one", HOSTS[0]), order("two", HOSTS[1]), order("three", HOSTS[2])]
    found = asyncio.run(nightly.sweep(orders, store, nightly.Settings(out, everything=True)))
    told = {one.site: one for one in found.ended}
    assert told["two"].verdict is None
    assert str(out / "two") in told["two"].why
    assert all(told[name].verdict is not None for name in ("one", "three"))
    assert list(elsewhere.iterdir()) == []
    assert not (out / "nowhere").exists()


def test_a_problem_is_told_for_a_target_that_nobody_admitted_whoever_made_it() -> None:
    stranger = Target(ip_address(QUIET[0]), (), target().authorization)
    with watching() as witness:
        gate = Gate()
        for opening in (gate.tcp(stranger, 25), gate.udp(stranger, 53), gate.icmp(stranger), gate.pace(stranger)):
            with pytest.raises(Problem, match="not among the addresses admitted"):
                asyncio.run(opening)
        assert witness.to(QUIET[0]) == []
