"""Many sites at once, recognised and judged: ``python bench/many.py [SITES] [--loss SHARE] [--rate N] [--profile]``.

A process of its own scans them through `exposure_scan.sweep` as a sweep does, under one gate, but writes no reports;
with ``--reports`` it is the whole `exposure-scan sweep` with its history, pages and bundles.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import json
import os
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from closed import Found, Line, addresses, closed, enter, refuse_a_way_out, truth

RATE = 20_000  # packets a second to all sites together
LIMIT = 240.0  # seconds for a run


@dataclass(frozen=True, slots=True)
class Run:
    """What a run cost and found. Seconds, bytes by their MB; `packets` are those that went out over the line."""

    sites: int
    loss: float
    seconds: float
    cpu: float
    mb: float
    packets: int
    probes: int
    open: int
    missed: int
    invented: int
    verdicts: dict[str, int]

    @property
    def microseconds(self) -> float:
        """Of CPU a probe."""
        return self.cpu / max(1, self.probes) * 1e6

    def text(self) -> str:
        """One line for the terminal."""
        false = f"; {self.invented} INVENTED" if self.invented else ""
        return (
            f"{self.sites:,} sites, {self.loss:.0%} lost each way: {self.seconds:.1f} s, {self.cpu:.1f} s of CPU "
            f"({self.microseconds:.0f} us a probe), peak {self.mb:.0f} MB, {self.packets:,} packets; "
            f"missed {self.missed} of {self.open}{false}"
        )


def places(rate: float) -> int:
    """How many sites a sweep has under way at that pace."""
    from exposure_scan.sweep.nightly import Settings

    return Settings(out=Path(), packets_per_second=rate).places


def many(line: Line, number: int, loss: float = 0.0, rate: float = RATE, profile: str = "") -> Run:
    """Scan so many sites in a process of their own.

    Raises:
        subprocess.SubprocessError: it failed or took too long.
    """
    sites = addresses(number)
    line.quality(40.0, loss, seed=number)
    command = [sys.executable, __file__, "--here", str(rate), *([profile] if profile else [])]
    before, began = _cpu_of_children(), time.monotonic()
    done = subprocess.run(command, input="\n".join(sites), stdout=subprocess.PIPE, text=True, check=True, timeout=LIMIT)
    seconds, cpu = time.monotonic() - began, _cpu_of_children() - before
    told = json.loads(done.stdout)
    found: Found = {(address, key) for address, key in told["open"]}
    right = truth(sites)
    return Run(
        number, loss, seconds, cpu, told["mb"], line.counts().out, told["probes"],
        len(right), len(right - found), len(found - right), told["verdicts"],
    )  # fmt: skip


def with_reports(line: Line, number: int, rate: float = RATE) -> tuple[float, float]:
    """Seconds on the clock and of CPU of the whole `exposure-scan sweep`: history, pages and bundles written.

    Raises:
        subprocess.SubprocessError: it failed or took too long.
    """
    line.quality(40.0, 0.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "sites.toml"
        file.write_text("".join(_site(address) for address in addresses(number)))
        words = ["sweep", "--sites", str(file), "--out", str(folder / "out"), "--all", "--no-mail", "--rate", str(rate)]
        words += ["--db", f"sqlite:///{folder / 'history.sqlite3'}"]
        before, began = _cpu_of_children(), time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "exposure_scan", *words],
            stdout=subprocess.DEVNULL,
            env={**os.environ, "XDG_STATE_HOME": name},
            check=False,
            timeout=LIMIT,
        )
        if done.returncode not in (0, 1, 3):
            raise subprocess.CalledProcessError(done.returncode, "exposure-scan sweep")
        return time.monotonic() - began, _cpu_of_children() - before


def _cpu_of_children() -> float:
    """Seconds, of those that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _site(address: str) -> str:
    return f'[[site]]\nname = "site {address}"\ntargets = ["{address}"]\nauthorization = {{ by = "a benchmark" }}\n'


# --- the process that scans -----------------------------------------------------------------------


def _here(rate: float, profile: str) -> None:
    """Scan the sites of standard input, and print what came of it as JSON."""
    refuse_a_way_out()
    from exposure_scan import scope, sweep
    from exposure_scan.transport import Gate

    sites = sys.stdin.read().split()
    found: list[tuple[str, str]] = []
    verdicts: dict[str, int] = {}
    probes = 0
    waiting = iter(sites)
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)  # as a sweep does

    async def main() -> None:
        gate = Gate(packets_per_second=rate)

        async def work() -> None:
            nonlocal probes
            for site in waiting:
                order = scope.order_from_words([site], authorized_by="a benchmark")
                scan = (await sweep.scan_site(order, gate=gate)).scan
                probes += sum(proof.tries for proof in scan.evidence)
                verdicts[str(scan.verdict)] = verdicts.get(str(scan.verdict), 0) + 1
                found.extend((host.address, port.key) for host in scan.hosts for port in host.ports if _open(port))
                del scan  # a sweep writes it down and lets it go

        async with gate.lag.measured():
            await asyncio.gather(*(work() for _ in range(min(places(rate), len(sites)))))

    if profile:
        profiler = cProfile.Profile()
        profiler.runcall(asyncio.run, main())
        profiler.dump_stats(profile)
    else:
        asyncio.run(main())
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "mb": usage.ru_maxrss / 1024,
                "probes": probes,
                "open": found,
                "verdicts": verdicts,
            }
        )
    )


def _open(port: object) -> bool:
    return str(getattr(port, "state", "")) == "open"


def main(words: Sequence[str]) -> None:
    """Read the words of the command line, and print a line."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("sites", type=int, nargs="?", default=1000)
    reader.add_argument("--loss", type=float, default=0.0, help="share lost each way")
    reader.add_argument("--rate", type=int, default=RATE, help="packets a second")
    reader.add_argument("--json", action="store_true")
    reader.add_argument("--reports", action="store_true", help="the whole sweep command instead")
    reader.add_argument("--profile", action="store_true", help="say where the CPU goes")
    asked = reader.parse_args(words)
    enter()
    with closed() as line, tempfile.TemporaryDirectory() as folder:
        if asked.reports:
            seconds, cpu = with_reports(line, asked.sites, asked.rate)
            print(f"exposure-scan sweep of {asked.sites:,} sites, reports written: {seconds:.1f} s, {cpu:.1f} s of CPU")
            return
        stats = f"{folder}/stats" if asked.profile else ""
        run = many(line, asked.sites, asked.loss, asked.rate, stats)
        print(json.dumps(asdict(run)) if asked.json else run.text())
        if stats:
            pstats.Stats(stats).sort_stats("cumulative").print_stats("exposure_scan", 40)
            pstats.Stats(stats).sort_stats("tottime").print_stats(20)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        _here(float(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
    else:
        main(sys.argv[1:])
