"""Bad circumstances: few descriptors, a right that is lost, a way out without room.

None of them may turn into a word about the site: what could not be measured is said to be unmeasured.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exposure_scan import scope, sweep
from exposure_scan.history.store import open_store
from exposure_scan.model import Echo, Problem, Scan
from exposure_scan.report import load_scan
from exposure_scan.sweep.due import due
from exposure_scan.transport import gate
from exposure_scan.transport.limits import raise_descriptors

REPOSITORY = Path(__file__).parent.parent
SERVER = "198.51.100.10"  # the practice site's
DESCRIPTORS = 40
ORDINARY = """
import sys
from exposure_scan.transport import Gate
Gate.packet_capture = Gate.raw_syns = lambda *_: None  # as for a user without CAP_NET_RAW
sys.argv = ["exposure-scan", *sys.argv[1:]]
from exposure_scan.cli import run
run()
"""


def order(name: str = "server", target: str = SERVER) -> scope.Order:
    return scope.order_from_words([target], authorized_by="a test", name=name)


def states(scan: Scan) -> dict[str, str]:
    return {port.key: port.state for host in scan.hosts for port in host.ports}


def judged(scan: Scan) -> dict[str, str]:
    return {finding.practice: finding.status for finding in scan.findings}


@pytest.fixture(scope="module")
def undisturbed(practice_site: None) -> Scan:
    return asyncio.run(sweep.scan_site(order())).scan


# --- descriptors ----------------------------------------------------------------------------------


def limits_of(program: str, soft: int, hard: int) -> str:
    """What a process that was started with these limits prints."""
    limits = (soft, hard)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def test_the_soft_limit_is_raised_to_the_hard_one_and_what_is_open_is_taken_off() -> None:
    program = """
import resource
from exposure_scan.transport.limits import raise_descriptors
kept = [open("/dev/null") for _ in range(20)]
free = raise_descriptors()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
more = [open("/dev/null") for _ in range(free)]
try:
    open("/dev/null")
except OSError as error:
    print(error.strerror)
"""
    assert limits_of(program, 60, 200) == "200\nToo many open files"


@pytest.mark.parametrize("soft", [3, 40])
def test_a_limit_that_cannot_be_raised_stays_and_nothing_fails(soft: int) -> None:
    program = f"""
import resource
from exposure_scan.transport.limits import raise_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {soft}))
print(raise_descriptors() <= {soft}, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    assert limits_of(program, 60, 200) == f"True {soft}"


def test_never_more_than_65_536_are_asked_for() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert 0 < raise_descriptors() <= 65_536
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= max(65_536, before[0])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_child_gets_the_limit_that_the_scanner_was_started_with() -> None:
    program = """
import resource, subprocess, sys
from exposure_scan.transport.limits import give_back, raise_descriptors
raise_descriptors()
child = subprocess.Popen([sys.executable, "-c",
    "import resource; input(); print(resource.getrlimit(resource.RLIMIT_NOFILE))"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
give_back(child.pid)
print(child.communicate("go")[0].strip())
give_back(child.pid)  # it has ended
"""
    assert limits_of(program, 60, 200) == "(60, 200)"


def test_the_gate_raises_the_limit_by_itself() -> None:
    program = """
import resource
from exposure_scan.transport import Gate
Gate()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    assert limits_of(program, 60, 200) == "(200, 200)"


@pytest.mark.parametrize("ordinary", [False, True], ids=["raw", "ordinary"])
def test_with_few_descriptors_a_scan_comes_out_the_same(undisturbed: Scan, ordinary: bool) -> None:
    start = ["-c", ORDINARY] if ordinary else ["-m", "exposure_scan"]
    done = subprocess.run(
        [sys.executable, *start, "scan", SERVER, "--authorized-by", "a test", "--json", "-"],
        cwd=REPOSITORY,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    scan = load_scan(done.stdout)
    assert scan.capture == ("transcript" if ordinary else "wire")
    assert states(scan) == states(undisturbed)
    assert judged(scan) == judged(undisturbed)


# --- rights ---------------------------------------------------------------------------------------


class _Capabilities(ctypes.Structure):
    """``struct __user_cap_data_struct`` of linux/capability.h, twice, flat."""

    _fields_ = (("words", ctypes.c_uint32 * 6),)


_NET_RAW = 1 << 13
_VERSION = 0x20080522


def give_up_net_raw() -> None:
    """This thread has no CAP_NET_RAW from now on, as far as it uses it; it may take it back."""
    _change(lambda effective: effective & ~_NET_RAW)


def take_net_raw_back() -> None:
    _change(lambda effective: effective | _NET_RAW)


def _change(how: Callable[[int], int]) -> None:
    system = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    data = _Capabilities()
    for call in (system.capget, system.capset):
        if call(header, ctypes.byref(data)):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        data.words[0] = how(data.words[0])


def test_a_right_that_is_lost_between_two_sites_costs_the_second_its_capture_and_no_port(undisturbed: Scan) -> None:
    def notice(progress: sweep.Progress) -> None:
        if progress.site == "two" and not progress.done:  # it is about to begin
            give_up_net_raw()

    async def both() -> dict[str, Scan]:
        found = {}
        async for one, result in sweep.scan_sites([order("one"), order("two")], at_once=1, notice=notice):
            assert isinstance(result, sweep.Result), result
            found[one.site.name] = result.scan
        return found

    try:
        found = asyncio.run(both())
    finally:
        take_net_raw_back()
    first, second = found["one"], found["two"]
    assert (first.capture, second.capture) == ("wire", "transcript")
    assert states(first) == states(second) == states(undisturbed)
    assert first.hosts[0].echo is Echo.REPLIED
    assert second.hosts[0].echo in (Echo.REPLIED, Echo.UNMEASURED)  # never silent: nobody kept silent
    assert {key: status for key, status in judged(second).items() if key != "server.stealth"} == {
        key: status for key, status in judged(undisturbed).items() if key != "server.stealth"
    }


# --- no room on the way out -----------------------------------------------------------------------


@pytest.mark.parametrize("ordinary", [False, True], ids=["raw", "ordinary"])
@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOBUFS], ids=errno.errorcode.get)
def test_what_finds_no_room_on_the_way_out_goes_a_moment_later_and_is_no_try(
    undisturbed: Scan, monkeypatch: pytest.MonkeyPatch, code: int, ordinary: bool
) -> None:
    refused = 0

    def full_twice(name: str) -> Callable[..., int]:
        """A way to send that takes every third packet."""
        real: Callable[..., int] = getattr(gate._Socket, name)
        calls = 0

        def send(sock: socket.socket, *words: object) -> int:
            nonlocal calls, refused
            if sock.type == socket.SOCK_STREAM and code != errno.EAGAIN:
                return real(sock, *words)  # a stream tells no other reason
            calls += 1
            if calls % 3:
                refused += 1
                raise OSError(code, os.strerror(code))
            return real(sock, *words)

        return send

    for name in ("send", "sendto", "sendmsg"):
        monkeypatch.setattr(gate._Socket, name, full_twice(name))
    if ordinary:
        for name in ("packet_capture", "raw_syns"):
            monkeypatch.setattr(gate.Gate, name, lambda *_: None)
        monkeypatch.setattr(gate.Gate, "shared_udp", _no_room)
    scan = asyncio.run(sweep.scan_site(order())).scan
    assert refused > 20
    assert states(scan) == states(undisturbed)
    assert judged(scan) == judged(undisturbed)
    assert {key: tries for key, tries in tried(scan).items() if tries > tried(undisturbed)[key]} == {}


def _no_room(*_: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def tried(scan: Scan) -> dict[str, int]:
    return {port.key: port.tries for host in scan.hosts for port in host.ports}


# --- many sites -----------------------------------------------------------------------------------


def sites_file(folder: Path, names: list[str], address: Callable[[int], str]) -> Path:
    rows = [
        f"""[[site]]
name = "{name}"
targets = ["{address(number)}"]
schedule = "0 3 * * *"
[site.authorization]
by = "Synthetic Owner {number}"
until = 2036-12-31
"""
        for number, name in enumerate(names)
    ]
    path = folder / "sites.toml"
    path.write_text('[partner]\nname = "Synthetic Partner"\n' + "\n".join(rows))
    return path


def anywhere(number: int) -> str:
    return f"198.{18 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"


def test_ten_thousand_sites_are_read_and_queued_each_once(tmp_path: Path) -> None:
    read = scope.read_sites_file(sites_file(tmp_path, [f"Site {number}" for number in range(10_000)], anywhere))
    names = [one.site.name for one in read.orders]
    assert len(set(names)) == 10_000
    with open_store(f"sqlite:///{tmp_path / 'history.sqlite3'}") as store:
        at = datetime(2026, 11, 25, 4, tzinfo=UTC)
        assert len(due(read.orders, store.last_attempts(), at)) == 10_000
        run, _ = store.begin_run(names, at)
        assert sorted(store.left_of(run)) == sorted(names)


def test_names_that_come_twice_among_ten_thousand_are_told_with_both_places(tmp_path: Path) -> None:
    names = [f"Site {number}" for number in range(10_000)]
    names[9_000], names[9_999] = "Site 17", "site-4321"  # the same folder as "Site 4321" is the same, too
    with pytest.raises(Problem) as caught:
        scope.read_sites_file(sites_file(tmp_path, names, anywhere))
    told = [sentence.partition("sites.toml: ")[2] for sentence in caught.value.sentences]
    assert [sentence.partition(" has this name")[0] for sentence in told] == [
        "site[9001].name: site[18]",
        "site[10000].name: site[4322]",
    ]
