"""Nmap beside our own scan: what it is told, what it sends, how both compare, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from ipaddress import ip_address
from pathlib import Path

import pytest
from nmap_files import ADDRESS, all_refused, document, host, port, read

from exposure_scan import lab, nmap, scope, sweep
from exposure_scan.cli.shared import sites_file
from exposure_scan.model import (
    Authorization,
    Host,
    Opinion,
    Port,
    PortState,
    Scan,
    SecondOpinion,
    Target,
    Verdict,
)
from exposure_scan.model import Path as Way
from exposure_scan.nmap import child
from exposure_scan.sweep import second
from exposure_scan.transport import Gate

needs_nmap = pytest.mark.skipif(shutil.which("nmap") is None, reason="nmap is not installed")
DOCUMENT = Path(__file__).parents[1] / "docs" / "second-opinion.md"
DEAD = "198.51.100.41"  # nobody there, and no other test asks it


# --- the practice site, really ---------------------------------------------------------------------


@dataclass
class Run:
    opinions: dict[str, SecondOpinion]
    scans: dict[str, Scan]
    wire: list[tuple[str, bytes]]  # transport and payload of what Nmap sent


@pytest.fixture(scope="module")
def run(practice_site: None) -> Run:
    """All five sites at once, with what Nmap sent to them."""
    orders = sites_file(lab.sites_file()).orders
    devices = {str(target) for order in orders for target in order.site.targets}
    heard: list[tuple[str, bytes]] = []
    done = threading.Event()

    async def both(order: scope.Order, gate: Gate, scans: dict[str, Scan]) -> tuple[str, SecondOpinion]:
        targets = await scope.resolve(order)
        async with gate.admitted(targets):
            return order.site.name, await second.second_opinion(
                gate, list(zip(targets, scans[order.site.name].hosts, strict=True))
            )

    async def everything() -> Run:
        async def scanned(order: scope.Order) -> tuple[str, Scan]:
            return order.site.name, (await sweep.scan_site(order)).scan

        scans = dict(await asyncio.gather(*map(scanned, orders)))
        gate = Gate()
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as sock:
            sock.settimeout(0.1)
            listener = threading.Thread(target=_hear, args=(sock, done, devices, heard))
            listener.start()
            try:
                opinions = dict(await asyncio.gather(*(both(order, gate, scans) for order in orders)))
            finally:
                done.set()
                listener.join()
        return Run(opinions, scans, heard)

    return asyncio.run(everything())


def _hear(sock: socket.socket, done: threading.Event, devices: set[str], heard: list[tuple[str, bytes]]) -> None:
    """Keep what goes to a device: IPv4 with a header of `data[0] & 15` words (RFC 791), then UDP or TCP."""
    while not done.is_set():
        try:
            data = sock.recv(65535)
        except TimeoutError:
            continue
        if data[0] >> 4 != 4 or socket.inet_ntoa(data[16:20]) not in devices:
            continue
        body = data[(data[0] & 15) * 4 : int.from_bytes(data[2:4])]
        if data[9] == socket.IPPROTO_UDP:
            heard.append(("udp", body[8:]))
        elif data[9] == socket.IPPROTO_TCP:
            heard.append(("tcp", body[(body[12] >> 4) * 4 :]))
        elif body[:1] != b"\x03":  # the devices' own errors pass here, too
            heard.append(("other", body))


@needs_nmap
def test_every_port_of_the_practice_site_agrees_or_differs_in_a_documented_way(run: Run) -> None:
    documented = DOCUMENT.read_text()
    counted = {}
    for name, opinion in run.opinions.items():
        assert opinion.trouble is None
        assert opinion.by.startswith("Nmap ")
        assert [row.port for row in opinion.ports] == [one.key for one in run.scans[name].hosts[0].ports]
        other = [row for row in opinion.ports if row.agreement != "same"]
        counted[name] = [f"{row.port} {row.ours} {row.theirs} {row.agreement}" for row in other]
        for row in other:
            assert f"> {row.because}" in documented, row
        assert (
            f"| `{name}` | {len(opinion.ports)} | {len(opinion.ports) - len(other)} | {len(other)} | 0 |" in documented
        )
    sip = ["udp/5060 open open|filtered compatible"]
    assert counted == {
        "exposed-server": sip,
        "remote-handset": sip,
        "px-expander": sip,
        "silent-site": [],
        "moved-voicemail": [],
    }


@needs_nmap
def test_nmap_sends_no_word_of_its_own(run: Run) -> None:
    kinds = {kind for kind, _ in run.wire}
    assert kinds == {"tcp", "udp"}  # and no ping
    assert {payload for _, payload in run.wire} == {b""}


@needs_nmap
def test_nmap_is_told_only_what_is_documented(run: Run) -> None:
    words = " ".join(run.opinions["exposed-server"].words)
    assert words.endswith(
        "-n -Pn --reason -sS -sU --data-length 0 --max-rate 100 --max-retries 3 --host-timeout 60s 198.51.100.10"
    )
    documented = DOCUMENT.read_text()
    for word in (
        "-n",
        "-Pn",
        "-sS",
        "-sU",
        "-sT",
        "--data-length 0",
        "--max-rate",
        "--max-retries 3",
        "--host-timeout",
    ):
        assert f"`{word}" in documented


# --- what the child is told ------------------------------------------------------------------------


def test_no_address_can_smuggle_an_option() -> None:
    order = {"address": "", "tcp": [25], "udp": [], "rate": 10, "seconds": 1, "privileged": False}
    for address in ("fe80::1%x -iL targets", "198.51.100.41 -sV", "example.com", "-iL", "198.51.100.0/24", ""):
        with pytest.raises(ValueError, match=r"zone|does not appear"):
            child.run(_json({**order, "address": address}))
    for ports in ([0], [70_000], ["25 -sV"], "25", [25] * 5000):
        with pytest.raises(ValueError, match=r"none|list|invalid literal"):
            child.run(_json({**order, "address": DEAD, "tcp": ports}))


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def test_without_the_right_to_make_packets_nmap_connects_and_asks_no_udp() -> None:
    assert child.arguments(6, udp=False, rate=12.5, seconds=9, privileged=False) == (
        "-6 -n -Pn --reason -sT --max-rate 12.5 --max-retries 3 --host-timeout 9s"
    )


def test_nobody_but_the_child_loads_python_nmap() -> None:
    code = "import sys, exposure_scan.cli, exposure_scan.sweep.second; sys.exit('nmap' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- what can go wrong -----------------------------------------------------------------------------


def target(until: datetime | None = None, address: str = DEAD) -> Target:
    return Target(ip_address(address), (), Authorization(by="a test", until=until))


def ours(*ports: Port, address: str = ADDRESS, way: Way | None = None) -> Host:
    (blank,) = read(document(host(address=address))).scan.hosts
    return blank.model_copy(update={"ports": ports, "path": way or Way()})


def asked(key: str, state: PortState, **more: object) -> Port:
    transport, _, number = key.partition("/")
    return Port(transport=transport, port=int(number), state=state, reason="synthetic", **more)


SILENT = ours(*(asked(f"tcp/{number}", PortState.FILTERED) for number in (25, 80, 143)), address=DEAD)


def opinion(one: Target, seconds: int = second.SECONDS, gate: Gate | None = None) -> SecondOpinion:
    async def main() -> SecondOpinion:
        used = gate or Gate()
        async with used.admitted([one]):
            return await second.second_opinion(used, [(one, SILENT)], seconds)

    return asyncio.run(main())


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `nmap` that does what its script says; the first words of any are those of Nmap's own version line."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "nmap"


def write(place: Path, script: str) -> None:
    version = 'if [ "$1" = -V ]; then echo "Nmap version 7.93 ( https://nmap.org )"; exit; fi\n'
    place.write_text(f"#!/bin/sh\n{version}{script}\n")
    place.chmod(0o755)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo 'synthetic: no such option' >&2; exit 255", "Nmap failed: synthetic: no such option"),
        ('echo \'<nmaprun scanner="nmap" start="1">\'', "Nmap"),
        ("kill -9 $$", "Nmap failed"),
        ("cat /dev/null", "Nmap failed"),
    ],
)
def test_a_failure_of_nmap_is_told_in_one_sentence(fake: Path, script: str, sentence: str) -> None:
    write(fake, script)
    found = opinion(target())
    assert found.trouble is not None
    assert sentence in found.trouble
    assert "Traceback" not in found.trouble
    assert {row.agreement for row in found.ports} == {"not-compared"}


def test_nmap_or_its_package_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Nmap is not installed on this machine" in (opinion(target()).trouble or "")
    (tmp_path / "nmap.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "python-nmap is not installed" in (opinion(target()).trouble or "")


HANGS = "trap '' TERM INT; sleep 60 & echo $$ $! > {0}; wait; sleep 60"


def assert_dead(pids: str) -> None:
    """Processes that ended or are about to: the kernel tells the end by a descriptor, reaped or not."""
    assert pids
    for pid in pids.split():
        try:
            process = os.pidfd_open(int(pid))
        except ProcessLookupError:
            continue
        ended, _, _ = select.select([process], [], [], 5)
        os.close(process)
        assert ended


def test_a_child_that_hangs_is_stopped_at_its_deadline_with_all_that_it_started(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(fake, HANGS.format(tmp_path / "pid"))
    monkeypatch.setattr(second, "_GRACE", 0.0)
    assert "was not done within 1 seconds" in (opinion(target(), seconds=1).trouble or "")
    assert_dead((tmp_path / "pid").read_text())


def test_the_end_of_the_consent_stops_nmap(fake: Path, tmp_path: Path) -> None:
    write(fake, HANGS.format(tmp_path / "pid"))
    ends = datetime(2030, 1, 1, tzinfo=UTC)

    def clock() -> datetime:  # the consent ends as soon as Nmap runs
        return ends + timedelta(seconds=1) if (tmp_path / "pid").exists() else ends - timedelta(seconds=1)

    found = opinion(target(until=ends), gate=Gate(clock=clock))
    assert "The authorization for 198.51.100.41 ended" in (found.trouble or "")
    assert_dead((tmp_path / "pid").read_text())


def test_a_cancelled_scan_leaves_no_nmap_behind(fake: Path, tmp_path: Path) -> None:
    write(fake, HANGS.format(tmp_path / "pid"))
    os.mkfifo(tmp_path / "pid")

    async def main() -> str:
        gate, one = Gate(), target()
        async with gate.admitted([one]):
            task = asyncio.create_task(second.second_opinion(gate, [(one, SILENT)]))
            pids = await asyncio.to_thread((tmp_path / "pid").read_text)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return pids

    assert_dead(asyncio.run(main()))


@needs_nmap
def test_without_privilege_udp_is_not_compared_and_that_is_told(
    practice_site: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(second, "_may_make_packets", lambda _: False)
    one = target(address=ADDRESS)
    mine = ours(asked("tcp/25", PortState.OPEN), asked("udp/53", PortState.CLOSED))

    async def main() -> SecondOpinion:
        gate = Gate()
        async with gate.admitted([one]):
            return await second.second_opinion(gate, [(one, mine)])

    found = asyncio.run(main())
    assert "-sT" in found.words
    assert "-sU" not in found.words
    assert [row.agreement for row in found.ports] == ["same", "not-compared"]
    assert found.trouble == second._NO_UDP


# --- who is right ----------------------------------------------------------------------------------


def row(port_: Port, theirs: Sequence[str], way: Way | None = None) -> Opinion:
    state, reason = theirs
    key = f"{port_.transport}/{port_.port}"
    found = nmap.read_nmap(BytesIO(document(host([port(key, state, reason)]))), "file.xml").hosts[ADDRESS]
    (one,) = nmap.compared(ours(port_, way=way), found)
    return one


SILENCE, REFUSAL, ANSWER = ("filtered", "no-response"), ("closed", "reset"), ("open", "syn-ack")
UDP_SILENCE, UNREACHABLE, UDP_ANSWER = (
    ("open|filtered", "no-response"),
    ("closed", "port-unreach"),
    ("open", "udp-response"),
)
JUDGED = [
    (asked("tcp/25", PortState.OPEN), ANSWER, "same", ""),
    (asked("tcp/25", PortState.CLOSED), REFUSAL, "same", ""),
    (asked("tcp/25", PortState.FILTERED), SILENCE, "same", ""),
    (asked("udp/53", PortState.OPEN_FILTERED), UDP_SILENCE, "same", ""),
    (asked("udp/5060", PortState.OPEN, service="sip"), UDP_SILENCE, "compatible", "SIP answers only its own words"),
    (asked("udp/53", PortState.OPEN_FILTERED), UNREACHABLE, "compatible", "Nmap heard that the port is closed"),
    (asked("udp/53", PortState.CLOSED), UDP_SILENCE, "compatible", "We heard that the port is closed"),
    (asked("tcp/25", PortState.FILTERED), REFUSAL, "compatible", "neither found it open"),
    (asked("udp/53", PortState.FILTERED), UDP_SILENCE, "compatible", "the refusal is the surer word"),
    (asked("tcp/25", PortState.FILTERED), ANSWER, "differs", "Scan again"),
    (asked("tcp/25", PortState.CLOSED), ANSWER, "differs", "Scan again"),
    (asked("tcp/25", PortState.UNMEASURED), ANSWER, "differs", "we did not measure it"),
    (asked("udp/53", PortState.OPEN_FILTERED), UDP_ANSWER, "differs", "Scan again"),
    (asked("tcp/25", PortState.OPEN, banner="220"), SILENCE, "differs", "on words that it said"),
    (asked("tcp/25", PortState.OPEN), REFUSAL, "differs", "on a connection that was accepted"),
    (asked("udp/53", PortState.OPEN), UNREACHABLE, "differs", "Ours rests on a reply"),
    (asked("tcp/25", PortState.UNMEASURED), SILENCE, "not-compared", "We did not measure it"),
    (asked("tcp/25", PortState.CLOSED), ("unfiltered", "reset"), "not-compared", "Nmap could not tell"),
]


@pytest.mark.parametrize(("mine", "theirs", "agreement", "because"), JUDGED)
def test_each_pair_of_states_is_judged_with_a_reason(
    mine: Port, theirs: tuple[str, str], agreement: str, because: str
) -> None:
    found = row(mine, theirs)
    assert found.agreement == agreement
    assert because in found.because
    assert bool(found.because) == (agreement != "same")


def test_a_middlebox_s_handshake_is_not_called_ours() -> None:
    found = row(asked("tcp/5060", PortState.OPEN), SILENCE, Way(middlebox="a helper", blurred=("tcp/5060",)))
    assert "in place of the host" in found.because


def test_every_pair_of_states_has_a_row() -> None:
    for mine in PortState:
        for state, reason in (SILENCE, REFUSAL, ANSWER, UDP_SILENCE, ("unfiltered", "reset")):
            found = row(asked("tcp/25", mine), (state, reason))
            assert (found.agreement == "same") == (found.ours is found.theirs and mine is not PortState.UNMEASURED)


def test_a_go_never_stands_where_nmap_found_open_what_we_did_not() -> None:
    scan = read(document(all_refused())).scan
    assert scan.verdict is Verdict.GO
    (mine,) = scan.hosts
    closed = nmap.compared(mine, nmap.read_nmap(BytesIO(document(all_refused())), "file.xml").hosts[ADDRESS])
    agreed = scan.model_copy(update={"second_opinion": SecondOpinion(by="Nmap 7.93", ports=closed)})
    assert second.weighed(agreed) == agreed
    worse = tuple(
        one.model_copy(update={"theirs": PortState.OPEN}) if one.port == "tcp/8080" else one for one in closed
    )
    doubted = second.weighed(scan.model_copy(update={"second_opinion": SecondOpinion(by="Nmap 7.93", ports=worse)}))
    assert doubted.verdict is Verdict.INCONCLUSIVE
    assert doubted.because == ("Nmap 7.93 found open at 198.51.100.10 what this scan did not: tcp/8080. Scan again.",)
    assert second.weighed(doubted) == doubted
    broken = doubted.model_copy(update={"verdict": Verdict.NO_GO})
    assert second.weighed(broken) == broken


def test_the_rows_as_lines_count_what_is_the_same() -> None:
    rows = [row(one, theirs) for one, theirs, *_ in JUDGED[:5]]
    lines = nmap.row_lines(rows)
    assert lines[0] == "4 of 5 ports: the same."
    assert lines[1].startswith(
        "198.51.100.10 udp/5060: ours open, theirs open|filtered (no-response): compatible. Nmap"
    )
