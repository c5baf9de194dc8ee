"""How much a page of all sites costs: ``python bench/fleet.py [SITES]``, by default of 100,000.

The sites are made while they are read, as a sweep makes them from its history, so that the peak of memory is
that of the page or the file and not of the fleet. A fresh process stands for each figure.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

from exposure_scan.model import Point, Vantage, Verdict
from exposure_scan.model.fleet import Expiry, Fleet, FleetRow, Turns
from exposure_scan.report.fleet import render_fleet
from exposure_scan.report.fleet_csv import render_fleet_csv

AT = datetime(2026, 11, 3, 14, 5, tzinfo=UTC)
TARGET_SECONDS, TARGET_BYTES = 10.0, 200_000_000


def fleet(number: int) -> Iterator[FleetRow]:
    """Synthetic sites: most are quiet, and each has its own points, name and addresses."""
    chance = Random(1)
    vantage = Vantage(name="bench vantage", checked=True, on=AT - timedelta(days=1), blind=("tcp/25",))
    for count in range(number):
        broken = chance.choice((0, 0, 0, 0, 0, 0, 1, 2, 3))
        verdict = Verdict.NO_GO if broken else chance.choice((Verdict.GO, Verdict.GO, Verdict.INCONCLUSIVE))
        one = FleetRow(
            name=f"Synthetic site {count} \u6771\u4eac",  # every cell of the file is as wide as its widest letter
            folder=f"synthetic-site-{count}",
            addresses=(f"198.18.{count // 250 % 250}.{count % 250 + 1}", f"2001:db8::{count:x}"),
            scanned=AT - timedelta(seconds=count % 86_400),
            verdict=verdict,
            was=verdict if count % 20 else Verdict.GO,
            not_met=broken,
            undeclared=13,
            open=broken,
            turns=Turns(new=broken and not count % 20, still=broken),
            oldest_days=count % 400 if broken else None,
            vantage=vantage,
            points=tuple(
                Point(
                    at=AT - timedelta(days=night),
                    verdict=verdict,
                    not_met=broken,
                    cannot_tell=0,
                    undeclared=13,
                    open=broken,
                )
                for night in range(12, 0, -1)
            ),
        )
        if not count % 7:
            end = Expiry("waiver", "The server ignores ping", f"owner {count}", (AT + timedelta(days=9)).date())
            one = replace(one, expiring=(end,))
        if not count % 50:
            one = replace(one, verdict=None, why="The name does not resolve.", failures=1)
        yield one


def nothing(number: int) -> str:
    deque(fleet(number), maxlen=0)
    return ""


CASES: dict[str, Callable[[int], str]] = {
    "the sites alone": nothing,
    "fleet.html": lambda number: render_fleet(Fleet(at=AT, rows=fleet(number), partner={"name": "Synthetic partner"})),
    "fleet.csv": lambda number: render_fleet_csv(fleet(number)),
}


def measure(case: str, number: int) -> None:
    """Print seconds, bytes and the peak of memory of one case."""
    start = time.perf_counter()
    text = CASES[case](number)
    took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    missed = "" if took < TARGET_SECONDS and peak < TARGET_BYTES else "  MISSED"
    size = len(text.encode())
    print(f"{case}, {number:,} sites: {took:.2f} s; {size:,} bytes; peak {peak / 1e6:.0f} MB{missed}", flush=True)


def main() -> None:
    """Each case in a process of its own, so that one's peak is not another's."""
    if len(sys.argv) == 3:
        measure(sys.argv[1], int(sys.argv[2]))
        return
    number = sys.argv[1] if len(sys.argv) == 2 else "100000"
    for case in CASES:
        subprocess.run([sys.executable, __file__, case, number], check=True)


if __name__ == "__main__":
    main()
