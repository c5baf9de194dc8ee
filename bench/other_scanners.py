"""The peers, over the same line at the same sites: ``python bench/other_scanners.py [SITES] [--loss SHARE]``.

Nmap pushed as hard as it goes without recognising anything, masscan at the fastest rate at which it misses nothing,
svmap for SIP alone. A peer that is not installed is said and left out: ``apt-get install nmap masscan``; svmap is
`sipvicious` of PyPI, looked for on the PATH or where SVMAP says.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from closed import GATEWAY, GATEWAY_MAC, NEAR, Found, Line, addresses, closed, enter, truth

from exposure_scan import plan
from exposure_scan.model import Site

LIMIT = 60.0  # seconds for a peer
RATES = (20_000, 40_000, 80_000)  # packets a second that masscan is tried at, the slowest first
_RETRIES = {0.0: 0, 0.05: 3}  # of masscan, by the loss: as few as let it find everything


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a process and what it waited for: seconds on the clock and of CPU, its peak of memory in MB, what it said."""

    seconds: float
    cpu: float
    mb: float
    out: str
    ended: bool  # by its own will, before the limit


@dataclass(frozen=True, slots=True)
class Peer:
    """What a peer cost, and how much of the truth it missed of what it looked for."""

    name: str
    command: str
    cost: Cost
    packets: int
    open: int
    missed_tcp: int
    missed_udp: int

    @property
    def missed(self) -> int:
        """Open ports of both kinds."""
        return self.missed_tcp + self.missed_udp

    def text(self) -> str:
        """One line for the terminal."""
        cut = "" if self.cost.ended else ", ended by the limit"
        return (
            f"{self.name}: {self.cost.seconds:.1f} s{cut}, {self.cost.cpu:.1f} s of CPU, peak {self.cost.mb:.0f} MB, "
            f"{self.packets:,} packets; missed {self.missed_tcp} TCP and {self.missed_udp} UDP of {self.open}"
        )


def timed(command: Sequence[str], limit: float = LIMIT) -> Cost:
    """Run a command; what takes longer than `limit` seconds is ended."""
    with tempfile.TemporaryFile() as out:
        began = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL)
        cut = threading.Event()

        def end() -> None:
            cut.set()
            process.kill()

        timer = threading.Timer(limit, end)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)  # of this one child alone, with its own children
        process.returncode = os.waitstatus_to_exitcode(status)
        timer.cancel()
        seconds = time.monotonic() - began
        out.seek(0)
        text = out.read().decode(errors="replace")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text, not cut.is_set())


def ports(transport: str) -> str:
    """The ports that a scan asks, as Nmap takes them."""
    asked = plan.questions(ip_address(NEAR), Site(name="bench", targets=(NEAR,)))
    return ",".join(str(one.port) for one in asked if one.transport == transport)


def installed() -> dict[str, str]:
    """Each peer's program, of those that are here, and its version."""
    found = {name: path for name in ("nmap", "masscan") if (path := shutil.which(name))}
    svmap = os.environ.get("SVMAP") or shutil.which("svmap") or shutil.which("sipvicious_svmap")
    if svmap and Path(svmap).exists():
        found["svmap"] = svmap
    return found


def version(name: str, program: str) -> str:
    """What the program says of itself, its number alone."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=20)
    number = re.search(r"v?\d+\.\d+[\w.]*", done.stdout + done.stderr)
    return f"{name} {number[0] if number else '(no version told)'}"


def peers(line: Line, number: int, loss: float = 0.0, *, told: Callable[[str], None] = print) -> list[Peer]:
    """Run each peer that is here once; of masscan every rate until it misses something, the best of them kept."""
    sites, programs, done = addresses(number), installed(), []
    with tempfile.TemporaryDirectory() as name:
        targets = Path(name) / "targets"
        targets.write_text("".join(f"{site}\n" for site in sites))

        def run(title: str, command: list[str], read: Callable[[str], Found], wanted: Found) -> Peer:
            line.quality(40.0, loss, seed=number)
            with _murmur():
                cost = timed(command)
            found, packets = read(cost.out), line.counts().out
            missed = [key for _, key in wanted - found]
            udp = sum(key.startswith("udp") for key in missed)
            shown = " ".join(Path(word).name if "/" in word else word for word in command)
            peer = Peer(title, shown, cost, packets, len(wanted), len(missed) - udp, udp)
            told(peer.text())
            return peer

        whole = truth(sites)
        if "nmap" in programs:
            command = [programs["nmap"], *NMAP_HARD, "-p", f"T:{ports('tcp')},U:{ports('udp')}", "-iL", str(targets)]
            done.append(run("nmap, pushed hard, no -sV", command, _of_nmap, whole))
        if "masscan" in programs:
            best = None
            for rate in RATES:
                command = _masscan(programs["masscan"], rate, _RETRIES.get(loss, 3), targets)
                peer = run(f"masscan at {rate:,} a second", command, _of_masscan, whole)
                if peer.missed_tcp and best is not None:
                    break
                best = peer
                if peer.missed_tcp:
                    break
            assert best is not None
            done.append(best)
        if "svmap" in programs:
            command = [programs["svmap"], "-I", str(targets), "-b", NEAR]
            done.append(run("svmap, SIP on UDP alone", command, _of_svmap, {one for one in whole if "udp" in one[1]}))
    for name in ("nmap", "masscan", "svmap"):
        if name not in programs:
            told(f"{name} is not installed and left out")
    return done


NMAP_HARD = [
    "-n",
    "-Pn",
    "-sS",
    "-sU",
    "--min-rate",
    "5000",
    "--max-retries",
    "1",
    "--min-hostgroup",
    "1024",
    "--max-hostgroup",
    "1024",
    "-oG",
    "-",
]


def _masscan(program: str, rate: int, retries: int, targets: Path) -> list[str]:
    words = f"--interface wan0 --adapter-ip {NEAR} --router-mac {GATEWAY_MAC} --rate {rate} --retries {retries}"
    udp = ",".join(f"U:{port}" for port in ports("udp").split(","))
    return [program, *words.split(), "--wait", "1", "-oL", "-", "-p", f"{ports('tcp')},{udp}", "-iL", str(targets)]


@contextmanager
def _murmur() -> Iterator[None]:
    """A packet now and then while a peer runs: masscan 1.3.2 waits for one more before it ends, for ever if need be."""
    over = threading.Event()

    def speak() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            while not over.wait(0.1):
                with suppress(OSError):  # what the last one was answered with
                    sock.sendto(b"", (GATEWAY, 9))

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _of_nmap(out: str) -> Found:
    rows = re.findall(r"Host: (\S+) \(\)\tPorts: ([^\t\n]*)", out)
    return {
        (host, f"{transport}/{port}")
        for host, listed in rows
        for port, transport in re.findall(r"(\d+)/open/(tcp|udp)/", listed)
    }


def _of_masscan(out: str) -> Found:
    rows = re.findall(r"^open (tcp|udp) (\d+) (\S+)", out, re.MULTILINE)
    return {(host, f"{transport}/{port}") for transport, port, host in rows}


def _of_svmap(out: str) -> Found:
    return {(host, f"udp/{port}") for host, port in re.findall(r"(\d+\.\d+\.\d+\.\d+):(\d+)", out)}


def main(words: Sequence[str]) -> None:
    """Read the words of the command line, and print a line for each peer."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("sites", type=int, nargs="?", default=1000)
    reader.add_argument("--loss", type=float, default=0.0, help="share lost each way")
    asked = reader.parse_args(words)
    enter()
    with closed() as line:
        peers(line, asked.sites, asked.loss)


if __name__ == "__main__":
    main(sys.argv[1:])
