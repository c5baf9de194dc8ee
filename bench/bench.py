"""The whole benchmark: ``make bench`` or ``python bench/bench.py``. Writes results.md and results.svg beside this file.

Ratios to peers of the same run, over the same line, at the same sites. What misses its goal is marked MISSED. The
benchmark never fails for it: a slow machine is no mistake.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from chart import chart
from closed import Line, closed, enter
from many import RATE, Run, many, places, with_reports
from other_scanners import Peer, installed, peers, version
from single import Single, single, starts

SITES, LOSSES, GROWTH = 1000, (0.0, 0.05), (10, 100, 1000, 10_000)
MOST_MISSED = {0.0: 0.0, 0.05: 1 / 1000}  # share of what is open, by the loss each way
MOST_OF_NMAP, MOST_OF_MASSCAN, MOST_MB, MOST_MICROSECONDS = 0.5, 1.0, 150.0, 60.0
STRAIGHT = 1.3  # a straight line: so much more of CPU a site at 10,000 than at 1,000, at most
_BUDGET = 600.0  # seconds, for all of it
_FOLDER = Path(__file__).parent


def say(text: str) -> None:
    """A line on the terminal at once."""
    print(text, flush=True)


def machine() -> list[str]:
    """What it ran on, and the versions of all that took part."""
    words = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((row.split(":", 1)[1].strip() for row in words if row.startswith("model name")), platform.machine())
    one = (f"{model}, {os.cpu_count()} cores", f"Linux {platform.release()}", f"Python {platform.python_version()}")
    return [*one, *(version(name, program) for name, program in installed().items())]


def goals(
    runs: dict[float, Run], others: dict[float, list[Peer]], growth: list[Run]
) -> Iterator[tuple[str, str, bool]]:
    """What was wanted of many sites, what came, and whether it was reached."""
    for loss, run in runs.items():
        lost = f"{loss:.0%} lost each way"
        share = run.missed / run.open
        yield (
            f"missed, {lost}: at most {MOST_MISSED[loss]:.1%}",
            f"{run.missed} of {run.open}",
            share <= MOST_MISSED[loss],
        )
        for peer in others[loss]:
            at_most = {"nmap": MOST_OF_NMAP, "masscan": MOST_OF_MASSCAN}.get(peer.name.split()[0].strip(","))
            if at_most is not None:
                ratio = run.seconds / peer.cost.seconds
                yield f"time, {lost}, of {peer.name}: at most {at_most:g}", f"{ratio:.2f}", ratio <= at_most
    by_number = {run.sites: run for run in growth}
    if {1000, 10_000} <= by_number.keys():
        many_, few = by_number[10_000], by_number[1000]
        bend = (many_.cpu / many_.sites) / (few.cpu / few.sites)
        yield f"CPU a site, 10,000 beside 1,000 sites: at most {STRAIGHT:g}", f"{bend:.2f}", bend <= STRAIGHT
    if growth:
        peak, each = max(run.mb for run in growth), max(growth, key=lambda run: run.sites).microseconds
        yield f"peak of memory: at most {MOST_MB:.0f} MB", f"{peak:.0f} MB", peak <= MOST_MB
        yield f"CPU a probe: at most {MOST_MICROSECONDS:.0f} us", f"{each:.0f} us", each <= MOST_MICROSECONDS


def _single_rows(singles: list[Single]) -> Iterator[str]:
    yield "| one site | ours | CPU | packets | nmap -sV, tuned | ratio | at most | |"
    yield "|---|---|---|---|---|---|---|---|"
    for one in singles:
        theirs = "left out" if one.theirs is None else f"{one.theirs.seconds:.1f} s"
        ratio = "" if one.ratio is None else f"{one.ratio:.3f}"
        yield (
            f"| {one.name} | {one.ours.seconds:.2f} s | {one.ours.cpu:.2f} s | {one.packets} | {theirs} | {ratio} "
            f"| {one.most:.3f} | {'MISSED' if one.missed else 'reached'} |"
        )
    for one in singles:
        yield from (
            "",
            f"What the clock of {one.name} was spent on (one run, {sum(s for _, s, _ in one.spent):.2f} s):",
            "",
        )
        yield from ("| s | on | |", "|---|---|---|")
        yield from (f"| {seconds:.3f} | {what} | {note} |" for what, seconds, note in one.spent)


def _many_rows(runs: dict[float, Run], others: dict[float, list[Peer]]) -> Iterator[str]:
    yield "| sites, loss each way | who | time | CPU | peak | packets | missed TCP, UDP |"
    yield "|---|---|---|---|---|---|---|"
    for loss, run in runs.items():
        where = f"{run.sites:,}, {loss:.0%}"
        yield (
            f"| {where} | exposure-scan, recognised and judged | {run.seconds:.1f} s | {run.cpu:.1f} s "
            f"| {run.mb:.0f} MB | {run.packets:,} | {run.missed} in all of {run.open} |"
        )
        for peer in others[loss]:
            cut = "" if peer.cost.ended else " (cut off)"
            yield (
                f"| {where} | {peer.name} | {peer.cost.seconds:.1f} s{cut} | {peer.cost.cpu:.1f} s "
                f"| {peer.cost.mb:.0f} MB | {peer.packets:,} | {peer.missed_tcp}, {peer.missed_udp} of {peer.open} |"
            )


def write(
    line: Line,
    began: list[tuple[str, float, float]],
    singles: list[Single],
    runs: dict[float, Run],
    others: dict[float, list[Peer]],
    growth: list[Run],
    reports: tuple[float, float],
    folder: Path = _FOLDER,
) -> None:
    """Write the table and the chart."""
    rows = ["# Results of `make bench`", "", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC. {'; '.join(machine())}.", ""]
    rows += [
        f"40 ms there and back over {line.kind}. Ours: {RATE:,} packets a second, {places(RATE):,} sites at once.",
        "",
    ]
    rows += ["| goal | came to | |", "|---|---|---|"]
    rows += [f"| {what}: at most {most:g} | {value:.2f} | {_mark(value <= most)} |" for what, value, most in began]
    rows += [f"| {goal} | {came} | {_mark(well)} |" for goal, came, well in goals(runs, others, growth)]
    rows += ["", "## One site", "", *_single_rows(singles), "", "## Many sites, a fifth of them open", ""]
    rows += [*_many_rows(runs, others), "", "## Growth", ""]
    rows += ["| sites | time | CPU | us a probe | peak | packets | missed |", "|---|---|---|---|---|---|---|"]
    rows += [
        f"| {run.sites:,} | {run.seconds:.1f} s | {run.cpu:.1f} s | {run.microseconds:.0f} | {run.mb:.0f} MB "
        f"| {run.packets:,} | {run.missed} of {run.open} |"
        for run in growth
    ]
    rows += ["", f"The whole `exposure-scan sweep` of {SITES:,} sites, with history, pages and bundles: "]
    rows[-1] += f"{reports[0]:.1f} s, {reports[1]:.1f} s of CPU."
    rows += ["", "## Commands of the peers", ""]
    peers_ = [one.peer for one in singles if one.theirs] + [peer.command for each in others.values() for peer in each]
    rows += [f"- `{command}`" for command in dict.fromkeys(peers_)]
    (folder / "results.md").write_text("\n".join(rows) + "\n")
    groups = [
        (f"{one.name}: recognised and judged", [
            ("exposure-scan", one.ours.seconds, True),
            *([("nmap -sV, tuned", one.theirs.seconds, False)] if one.theirs else []),
        ])
        for one in singles
    ]  # fmt: skip
    groups += [
        (f"{run.sites:,} sites, {loss:.0%} lost each way", [
            ("exposure-scan, recognised and judged", run.seconds, True),
            *((f"{peer.name} (missed {peer.missed})", peer.cost.seconds, False) for peer in others[loss]),
        ])
        for loss, run in runs.items()
    ]  # fmt: skip
    (folder / "results.svg").write_text(chart(groups, [(run.sites, run.cpu, run.mb) for run in growth]))


def _mark(well: bool) -> str:
    return "reached" if well else "MISSED"


def main() -> None:
    """Run all of it, and say on the terminal what comes."""
    enter()
    began = time.monotonic()
    say("; ".join(machine()))
    with closed() as line:
        say(f"40 ms there and back, {line.kind}")
        started = starts(told=say)
        singles = single(line, told=say)
        runs: dict[float, Run] = {}
        others: dict[float, list[Peer]] = {}
        for loss in LOSSES:
            runs[loss] = many(line, SITES, loss)
            say(f"exposure-scan, recognised and judged: {runs[loss].text()}")
            others[loss] = peers(line, SITES, loss, told=say)
        growth = []
        for number in GROWTH:
            growth.append(runs[0.0] if number == SITES else many(line, number))
            say(f"growth: {growth[-1].text()}")
        reports = with_reports(line, SITES)
        say(f"exposure-scan sweep of {SITES:,} sites, reports written: {reports[0]:.1f} s, {reports[1]:.1f} s of CPU")
        for goal, came, well in goals(runs, others, growth):
            say(f"{goal}: {came}{'' if well else '  MISSED'}")
        write(line, started, singles, runs, others, growth, reports)
    took = time.monotonic() - began
    say(f"{_FOLDER / 'results.md'} and results.svg written; {took:.0f} s{'' if took < _BUDGET else '  MISSED'}")


if __name__ == "__main__":
    main()
