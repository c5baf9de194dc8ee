"""One open and one silent site, and the start of the program: ``python bench/single.py``.

Whole processes, start-up included, in turns with Nmap, tuned, doing its service scan of the same ports over the same
line. What the clock of a scan was spent on comes from its own evidence.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from closed import OPEN, SILENT, Line, closed, enter
from other_scanners import Cost, installed, ports, timed

TURNS = 5
PEER_TURNS = 2  # a peer of minutes is asked twice
LIMIT = 130.0  # seconds for one turn of the peer
RTT_MS = 40.0
CASES = {
    "one open server": (str(OPEN[1]), 1 / 20),
    "one silent host": (str(SILENT[2]), 1 / 8),
}  # most of the peer's time
SCAN = [sys.executable, "-m", "exposure_scan", "scan", "--authorized-by", "a benchmark"]
NMAP = ["-n", "-Pn", "-sS", "-sU", "-sV", "-T4", "--max-retries", "2", "--version-light"]
MOST_STARTS, MOST_IMPORTS = 4.0, 0.3  # times `python -c pass`; seconds


Proof = dict[str, Any]  # a piece of evidence, as the JSON of a scan has it


@dataclass(frozen=True, slots=True)
class Single:
    """Medians of one case; `spent` is what the clock of one run went on: what, seconds, a note."""

    name: str
    ours: Cost
    packets: int
    fewest_tries: int
    theirs: Cost | None
    peer: str
    most: float
    spent: tuple[tuple[str, float, str], ...]

    @property
    def ratio(self) -> float | None:
        """Our time as a share of the peer's."""
        return self.ours.seconds / self.theirs.seconds if self.theirs else None

    @property
    def missed(self) -> bool:
        """Whether a goal is."""
        return (self.ratio or 0) > self.most or self.fewest_tries < 3

    def text(self) -> str:
        """One line for the terminal."""
        words = f"{self.name}: {self.ours.seconds:.2f} s, {self.ours.cpu:.2f} s of CPU, {self.packets} packets"
        if self.theirs is not None:
            words += f"; nmap -sV, tuned: {self.theirs.seconds:.1f} s{'' if self.theirs.ended else ' (cut off)'}"
            words += f"; ratio {self.ratio:.3f} (at most {self.most:.3f})"
        return words + ("  MISSED" if self.missed else "")


def single(line: Line, *, told: Callable[[str], None] = print) -> list[Single]:
    """Both cases, in turns with the peer where it is here."""
    nmap, found = installed().get("nmap"), []
    for name, (address, most) in CASES.items():
        command = [nmap, *NMAP, "-p", f"T:{ports('tcp')},U:{ports('udp')}", address] if nmap else []
        ours: list[Cost] = []
        theirs: list[Cost] = []
        packets = 0
        for turn in range(TURNS):
            line.quality(RTT_MS, 0.0)
            ours.append(timed([*SCAN, "--quiet", address]))
            packets = line.counts().out
            if command and turn < PEER_TURNS:
                theirs.append(timed(command, LIMIT))
        spent, fewest = clock(address)
        one = Single(
            name, _middle(ours), packets, fewest, _middle(theirs) if theirs else None, " ".join(["nmap", *command[1:]]),
            most, spent,
        )  # fmt: skip
        told(one.text())
        for what, seconds, note in one.spent:
            told(f"    {seconds:6.3f} s  {what}{f' ({note})' if note else ''}")
        found.append(one)
    return found


def _middle(costs: Sequence[Cost]) -> Cost:
    return sorted(costs, key=lambda cost: cost.seconds)[len(costs) // 2]


def clock(address: str) -> tuple[tuple[tuple[str, float, str], ...], int]:
    """What the time of one scan was spent on, of the question that was settled last; and the fewest tries at a silence.

    The parts are one after the other and add up to the whole.
    """
    began = time.time()
    done = subprocess.run([*SCAN, "--json", "-", address], capture_output=True, text=True, check=False)
    ended = time.time()
    scan = json.loads(done.stdout)

    def at(text: str) -> float:
        return datetime.fromisoformat(text).timestamp()

    proofs = [proof for proof in scan["evidence"] if proof["steps"]]
    first = min(at(proof["at"]) for proof in proofs)
    last = max(proofs, key=lambda proof: at(proof["at"]) + proof["steps"][-1]["ms"] / 1000)
    steps = last["steps"]
    over = at(last["at"]) + steps[-1]["ms"] / 1000
    finished = at(scan["finished"])
    talks = (proof for proof in proofs if proof["reason"] == "syn-ack")
    longest = max(talks, key=lambda proof: float(proof["steps"][-1]["ms"]), default=None)
    name = f"{last['kind']}/{last['port']}"
    asked = [step["ms"] / 1000 for step in steps if step["what"] in ("asking", "sent")]
    rows = [("the interpreter, imports, the order", first - began, "")]
    rows.append((f"the pace of one host, until {name} had its turn", at(last["at"]) - first, _talk(longest)))
    if last["reason"] == "no-response":
        gaps = ", ".join(f"{later - earlier:.1f}" for earlier, later in pairwise(asked))
        rows.append((f"gaps between the tries at {name}", asked[-1] - asked[0], f"{len(asked)} tries: {gaps} s"))
        rows.append(("patience after the last try", steps[-1]["ms"] / 1000 - asked[-1], "a late answer still counts"))
    else:
        trips = _trips(last)
        note = f"{trips} round trip{'s' * (trips > 1)} of {RTT_MS:.0f} ms"
        rows.append((f"the answer of {name}", over - at(last["at"]), note))
    rows.append(("a last look, and judging", finished - over, ""))
    rows.append(("writing, and the end of the process", ended - finished, "here as JSON"))
    silent = [proof["tries"] for proof in proofs if proof["reason"] == "no-response" and proof["purpose"] == "ask"]
    return tuple(rows), min(silent, default=3)


def _trips(proof: Proof) -> int:
    """Round trips that a conversation needs: each answer is one; a TLS handshake is one (RFC 8446)."""
    answers = ("connected", "received", "secured", "not-connected", "icmp")
    opened = proof["kind"] == "udp"  # a UDP socket is "connected" without a packet
    return sum(1 for step in proof["steps"] if step["what"] in answers) - int(opened)


def _talk(longest: Proof | None) -> str:
    if longest is None:
        return ""
    took, trips = float(longest["steps"][-1]["ms"]) / 1000, _trips(longest)
    return (
        f"meanwhile the longest conversation, tcp/{longest['port']}: {took:.2f} s for "
        f"{trips} round trips, which are {trips * RTT_MS / 1000:.2f} s"
    )


def starts(*, told: Callable[[str], None] = print) -> list[tuple[str, float, float]]:
    """What starting costs: how often `python -c pass` fits in it, and the seconds of imports; with the most of each."""
    bare = min(timed([sys.executable, "-c", "pass"]).seconds for _ in range(15))
    version = min(timed([sys.executable, "-m", "exposure_scan", "--version"]).seconds for _ in range(15))
    imports = []
    for _ in range(3):
        command = [sys.executable, "-X", "importtime", *SCAN[1:], "--quiet", CASES["one open server"][0]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        imports.append(sum(int(self_) for self_ in re.findall(r"import time:\s+(\d+) \|", done.stderr)) / 1e6)
    found = [
        ("exposure-scan --version, in times of python -c pass", version / bare, MOST_STARTS),
        ("imports of a scan of one host, in seconds", statistics.median(imports), MOST_IMPORTS),
    ]
    for what, value, most in found:
        told(f"{what}: {value:.2f} (at most {most:g}){'  MISSED' if value > most else ''}")
    return found


def main() -> None:
    """Print it."""
    enter()
    with closed(RTT_MS) as line:
        print(f"{RTT_MS:.0f} ms there and back, {line.kind}")
        starts()
        single(line)


if __name__ == "__main__":
    main()
