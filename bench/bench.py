"""How fast is a scan, against a peer in the same run: ``make bench``.

Each case is timed in turns with nmap (where it is installed) doing its usual service scan of the same
ports, over the same line: 40 ms there and back, in user space. The figures are medians of whole
processes, start-up included. Ratios compare machines; seconds only show the targets.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from ipaddress import ip_address

from exposure_scan import lab
from exposure_scan.lab.line import Quality, far, line
from exposure_scan.model import Authorization, Site, Target
from exposure_scan.plan import questions

ROUNDS = 5
RTT_MS = 40.0
CASES = {"one open host": ("198.51.100.10", 2.0), "one silent host": ("198.51.100.40", 4.0)}


def seconds(command: Sequence[str], expected: tuple[int, ...]) -> float:
    start = time.perf_counter()
    code = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode
    took = time.perf_counter() - start
    assert code in expected, f"{command} ended with {code}"
    return took


def peer(address: str) -> list[str] | None:
    program = shutil.which("nmap")
    if program is None:
        return None
    target = Target(ip_address(address), (), Authorization(by="practice site"))
    asked = questions(target.address, Site(name="bench", targets=(address,)))
    tcp, udp = (
        ",".join(str(question.port) for question in asked if question.transport == kind) for kind in ("tcp", "udp")
    )
    ports = f"T:{tcp},U:{udp}"
    return [program, "-n", "-Pn", "-sS", "-sU", "-sV", "-T4", "-p", ports, address]


def main() -> None:
    """Print one line a case, and start-up beside the interpreter's own."""
    assert lab.inside(), "run this by `make bench`"
    scan = [sys.executable, "-m", "exposure_scan", "scan", "--authorized-by", "practice site", "--quiet"]
    with line(Quality(rtt_ms=RTT_MS)):
        for name, (address, target) in CASES.items():
            there = far(address)
            ours: list[float] = []
            theirs: list[float] = []
            command = peer(there)
            for _ in range(ROUNDS):
                ours.append(seconds([*scan, there], (1, 3)))
                if command is not None and len(theirs) < 2:  # a peer of minutes is asked twice
                    theirs.append(seconds(command, (0,)))
            took = statistics.median(ours)
            line_ = f"{name} at {RTT_MS:g} ms: {took:.2f} s (target: under {target:g} s)"
            if theirs:
                against = statistics.median(theirs)
                line_ += f"; nmap -sS -sU -sV -T4, same ports: {against:.2f} s; ratio {took / against:.3f}"
            print(line_ + ("" if took < target else "  MISSED"))
    bare = min(seconds([sys.executable, "-c", "pass"], (0,)) for _ in range(20))
    for word, most in (("--version", 4), ("--help", 10)):
        ours_ = min(seconds([sys.executable, "-m", "exposure_scan", word], (0,)) for _ in range(20))
        ratio = ours_ / bare
        print(f"{word}: {ours_ * 1000:.0f} ms; python -c pass: {bare * 1000:.0f} ms; ratio {ratio:.1f} (< {most})")
    if shutil.which("nmap") is None:
        print("nmap is not installed, so there is no peer to compare with: apt-get install nmap")


if __name__ == "__main__":
    main()
