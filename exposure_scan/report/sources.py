"""Whose observations a report tells, what became of them since, and what another scanner found.

Text that came from outside is carried as it is, but for pieces of a sentence of ours, which are cleaned one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from exposure_scan.model import Scan
from exposure_scan.model.text import within

from . import words
from .doubt import Fact
from .proof import CAPTURES

_MOST_ROWS = 60
_MOST_PORTS = 6
_KINDS = {"capture": "a capture", "nmap": "an Nmap scan"}
MASKED = "Nonces, host names and serials are masked in this copy."


@dataclass(frozen=True, slots=True)
class Difference:
    """A port that the other scanner saw otherwise."""

    host: str
    port: str
    ours: str
    theirs: str
    because: str


@dataclass(frozen=True, slots=True)
class Second:
    """What another scanner found: in a sentence or two, and port by port where it differs."""

    lines: tuple[str, ...]
    rows: tuple[Difference, ...]
    more: int


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the observations come from. `top` is for the beginning of a report; empty where we scanned ourselves."""

    top: tuple[str, ...]
    capture: str
    second: Second | None


def sources(scan: Scan) -> Sources:
    """All of it, for one scan."""
    return Sources(
        top=tuple(_top(scan)),
        capture=CAPTURES[scan.capture].made if scan.capture in CAPTURES else "none",
        second=_second(scan),
    )


def second_facts(scan: Scan) -> tuple[Fact, ...]:
    """What another scanner found, in a line or two for a terminal; the top is for whoever begins the summary."""
    second = _second(scan)
    return () if second is None else (Fact("Second opinion", (*second.lines, *_differing(second, scan))),)


def _top(scan: Scan) -> Iterable[str]:
    if scan.origin is not None:
        by = f" by {within(scan.origin.by, 120)}" if scan.origin.by else ""
        yield (
            f"Read from {within(scan.origin.name, 120)} ({_KINDS[scan.origin.kind]}{by}), "
            f"SHA-256 {within(scan.origin.sha256, 64)}; no packet was sent."
        )
    if scan.redacted:
        yield MASKED


def _second(scan: Scan) -> Second | None:
    opinion = scan.second_opinion
    if opinion is None:
        return None
    compared = [port for port in opinion.ports if port.agreement != "not-compared"]
    differing = [port for port in compared if port.agreement == "differs"]
    left = len(opinion.ports) - len(compared)
    lines = []
    if compared:
        same = len(compared) - len(differing)
        ports = words.count(len(compared), "port", "ports")
        lines.append(f"{within(opinion.by)} looked right after this scan and agrees on {same:,} of {ports}.")
    if left:
        lines.append(f"{words.count(left, 'port was', 'ports were')} not compared.")
    if opinion.trouble is not None:
        lines.append(f"{within(opinion.by)} had trouble: {within(opinion.trouble, 240).rstrip('.')}.")
    rows = tuple(
        Difference(
            host=port.host,
            port=port.port,
            ours=words.PROOF_STATES.get(port.ours, port.ours),
            theirs=f"{words.PROOF_STATES.get(port.theirs, port.theirs)} ({within(port.reason, 60)})",
            because=port.because,
        )
        for port in differing
    )
    return Second(tuple(lines), rows[:_MOST_ROWS], max(len(rows) - _MOST_ROWS, 0))


def _differing(second: Second, scan: Scan) -> Iterable[str]:
    """``It differs on tcp/25, udp/161.``, or nothing."""
    several = len(scan.hosts) > 1
    ports = [
        within(row.port, 20) + (f" of {within(row.host, 45)}" if several else "") for row in second.rows[:_MOST_PORTS]
    ]
    more = len(second.rows) + second.more - len(ports)
    if ports:
        yield f"It differs on {', '.join(ports)}{f' and {more:,} more' if more else ''}."
