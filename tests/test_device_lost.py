"""The device that leads to a host goes down, or loses its cable: no silence of the host comes of it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

import pytest

from exposure_scan import scope, sweep
from exposure_scan.lab import line
from exposure_scan.lab import network as kernel
from exposure_scan.model import Echo, PortState, Scan, Verdict
from exposure_scan.report import load_scan
from exposure_scan.sweep import differences, rederive

REPOSITORY = Path(__file__).parent.parent
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1  # linux/sockios.h, net/if.h
_SET_LINK, _CARRIER = 19, 33  # linux/rtnetlink.h RTM_SETLINK, linux/if_link.h IFLA_CARRIER
_REQUEST_AND_ANSWER = 0x1 | 0x4  # linux/netlink.h NLM_F_REQUEST, NLM_F_ACK
_WAN = "wan0"  # the line's device on this side


# --- in a network of its own ----------------------------------------------------------------------


def take_down() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        asked = fcntl.ioctl(control, _GET_FLAGS, struct.pack("16s24x", _WAN.encode()))
        (flags,) = struct.unpack_from("H", asked, 16)
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sH22x", _WAN.encode(), flags & ~_UP))


def bring_up() -> None:
    """The device as it was; the kernel keeps its IPv4 addresses and forgets its routes."""
    kernel.bring_up(_WAN)
    kernel.add_route(ip_network(line.FAR), _WAN)


def plug(*, there: bool) -> None:
    """Pull the cable, or put it in: the route stays, and every send succeeds."""
    body = struct.pack("=BxHiII", 0, 0, socket.if_nametoindex(_WAN), 0, 0)
    body += struct.pack("=HHB3x", 5, _CARRIER, there)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as control:
        control.send(struct.pack("=IHHII", 16 + len(body), _SET_LINK, _REQUEST_AND_ANSWER, 1, 0) + body)
        (code,) = struct.unpack_from("=i", control.recv(4096), 16)
    if code:
        raise OSError(-code, os.strerror(-code))


def _out() -> None:
    plug(there=False)


def _in() -> None:
    plug(there=True)


def _scan(
    number: int,
    lose: Callable[[], None] | None = None,
    regain: Callable[[], None] | None = None,
    *,
    present: bool = False,
) -> Scan:
    """Scan a place behind the line; its device is lost with the first answer, and regained 0.3 s later."""

    def notice(progress: sweep.Progress) -> None:
        nonlocal lose
        if progress.done and lose is not None:
            lose()
            lose = None
            if regain is not None:
                asyncio.get_running_loop().call_later(0.3, regain)

    target = line.Place(number, "refusing").address
    said = "a test" if present else None
    order = scope.order_from_words([target], authorized_by="a test", name="site", present=said)
    return asyncio.run(sweep.scan_site(order, notice=notice)).scan


def _in_a_network_of_its_own() -> None:
    """What this file does as a program: scans over a line, as JSON by their names in `Scans`."""
    kernel.unshare()
    kernel.bring_up()
    places = [line.Place(1, "exposed-server"), line.Place(2, "refusing"), line.Place(3, "refusing", ("only=icmp",))]
    with line.line(line.Quality(rtt_ms=20), places):
        scans = {"server": _scan(1), "refusing": _scan(2), "pinged": _scan(3)}
        scans["server_back"] = _scan(1, take_down, bring_up)
        scans["server_in_again"] = _scan(1, _out, _in)
        scans["unplugged"] = _scan(3, _out)
        scans["never_plugged"] = _scan(3, present=True)
        _in()
        scans["down"] = _scan(2, take_down)
    sys.stdout.write(json.dumps({name: scan.to_json() for name, scan in scans.items()}))


# --- what came of it ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scans:
    """Three hosts in peace; the first lost for 0.3 s, in both ways; the others lost for good, or from the start."""

    server: Scan
    refusing: Scan
    pinged: Scan
    server_back: Scan
    server_in_again: Scan
    unplugged: Scan
    never_plugged: Scan
    down: Scan


@pytest.fixture(scope="module")
def scans() -> Scans:
    if why := line.available():
        pytest.skip(why)
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, __file__], cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return Scans(**{name: load_scan(text) for name, text in json.loads(done.stdout).items()})


def states(scan: Scan) -> dict[str, str]:
    return {port.key: port.state for host in scan.hosts for port in host.ports}


def judged(scan: Scan) -> dict[str, str]:
    return {finding.practice: finding.status for finding in scan.findings}


def unclosed(scan: Scan) -> set[tuple[PortState, str]]:
    return {(port.state, port.reason) for host in scan.hosts for port in host.ports if port.state != "closed"}


def test_a_device_that_goes_down_makes_ports_unmeasured_and_no_go_of_it(scans: Scans) -> None:
    assert scans.refusing.verdict is Verdict.GO
    assert scans.down.verdict is Verdict.INCONCLUSIVE
    assert unclosed(scans.down) == {(PortState.UNMEASURED, "local-error: Network is unreachable")}


def test_a_cable_that_is_pulled_makes_ports_unmeasured_and_nobody_is_said_to_block(scans: Scans) -> None:
    scan = scans.unplugged
    assert scans.pinged.verdict is Verdict.GO
    assert scan.verdict is Verdict.INCONCLUSIVE
    assert unclosed(scan) == {(PortState.UNMEASURED, "local-error: no carrier")}
    assert scan.hosts[0].path.dark is None
    assert not any("block" in sentence for sentence in scan.because)
    assert "The scanner's own machine could not ask: no carrier." in scan.because[0]


def test_without_a_cable_nobody_is_silent_even_where_a_person_says_that_the_site_is_there(scans: Scans) -> None:
    scan = scans.never_plugged
    assert scan.verdict is Verdict.INCONCLUSIVE
    assert scan.hosts[0].echo is Echo.UNMEASURED
    assert unclosed(scan) == {(PortState.UNMEASURED, "local-error: no carrier")}


@pytest.mark.parametrize("name", ["server_back", "server_in_again"])
def test_what_comes_up_again_is_asked_again(scans: Scans, name: str) -> None:
    scan = getattr(scans, name)
    assert states(scan) == states(scans.server)
    assert judged(scan) == judged(scans.server)


@pytest.mark.parametrize("name", ["unplugged", "never_plugged", "server_in_again"])
def test_the_evidence_of_such_a_scan_gives_the_same_again(scans: Scans, name: str) -> None:
    scan = getattr(scans, name)
    assert differences(scan, rederive(scan)) == []


if __name__ == "__main__":
    _in_a_network_of_its_own()
