"""Every scenario with every fault of the line: what must come out, what must never, and what did.

A cell is a device behind the line with faults on the way to it. What is true of it stands in the
cell; what the scan says is held against that, never against what the scan said last time.

    python tests/fault_matrix.py --repeat 20 [--only WORD]     (`make matrix`)

Workers with networks of their own scan the cells, several at once; a worker reads its share from
standard input and writes one line of JSON a scan.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

from exposure_scan import scope, sweep
from exposure_scan.lab.faults import ROUTER
from exposure_scan.lab.line import STANDING, Place, Quality, available, line
from exposure_scan.model import Host, Scan, Status, Verdict

GO, NO_GO, INCONCLUSIVE = Verdict.GO, Verdict.NO_GO, Verdict.INCONCLUSIVE
WORKERS, AT_ONCE = 2, 12  # more at once would measure this machine, not the product
ON_ONE_LINE = 100  # places behind one line: its devices need descriptors
LIMIT = 1500  # seconds for a worker's share
RTT_MS = 40.0
PERSON = "a practice technician (synthetic)"

SIP = frozenset({"sip.not-reachable", "server.unused-services-off", "server.stealth"})
ADMIN = frozenset(
    {
        "network.wan-admin-off",
        "server.admin-page-hidden",
        "server.vpn-for-maintenance",
        "server.unused-services-off",
        "server.stealth",
    }
)
EXPOSED = SIP | ADMIN | {"server.voicemail-ports-moved"}
PING = frozenset({"server.stealth"})
NOTHING: frozenset[str] = frozenset()

# What the path of the host must show besides, by name.
SHOWS: Mapping[str, Callable[[Seen], bool]] = {
    "a middlebox": lambda seen: seen.middlebox is not None,
    "went dark": lambda seen: seen.dark is not None,
    "the last hop": lambda seen: seen.last_hop == ROUTER,
    "the router's word": lambda seen: ROUTER in seen.errors or seen.last_hop == ROUTER,
    "nobody": lambda seen: not seen.alive and not seen.open,
    "somebody": lambda seen: seen.alive,
}


@dataclass(frozen=True)
class Cell:
    """A device, the faults before it, and what is true of it.

    `breaks` are the practices that it really breaks, as far as any packet can tell; another one that
    is not met is a false alarm, and one of these that is met is as bad. `allowed` are the verdicts that
    may come out, the first of them the best that was possible.
    """

    device: str
    faults: str
    allowed: tuple[Verdict, ...]
    breaks: frozenset[str] = NOTHING
    states: Mapping[str, Status] = field(default_factory=dict)  # that must come out
    shows: tuple[str, ...] = ()
    expect: str = ""  # --expect
    present: str = ""  # --present

    @property
    def name(self) -> str:
        """What it is called in tests and figures."""
        return " ".join(filter(None, (self.device, self.faults, self.present and "present")))

    @property
    def lossy(self) -> bool:
        """Whether it comes out differently by chance."""
        return "loss=" in self.faults


@dataclass(frozen=True)
class Seen:
    """What one scan said of a cell."""

    verdict: Verdict
    states: Mapping[str, str]
    because: Sequence[str]
    open: Mapping[str, str | None]  # port -> service
    alive: bool
    middlebox: str | None
    dark: str | None
    last_hop: str | None
    errors: Sequence[str]  # routers that sent some
    loss: float | None
    lag_ms: float
    seconds: float


# --- the cells ------------------------------------------------------------------------------------


def _exposed(device: str, breaks: frozenset[str], faults: str, *shows: str) -> Cell:
    """What is exposed must be found, with all that it breaks; where one service may be lost, doubt is honest."""
    if "loss=" in faults and device != "exposed-server":
        return Cell(device, faults, (NO_GO, INCONCLUSIVE), breaks, shows=shows)
    states = {} if "loss=" in faults else dict.fromkeys(breaks, Status.NOT_MET)
    return Cell(device, faults, (NO_GO,), breaks, states, shows)


def _protected(device: str, faults: str, expect: str, *shows: str, breaks: frozenset[str] = NOTHING) -> Cell:
    return Cell(device, faults, (GO, INCONCLUSIVE), breaks, shows=shows, expect=expect)


def _nobody(faults: str, *shows: str, device: str = "nobody") -> Cell:
    """Nothing that the host can have sent comes back, so nothing is known."""
    states = {"sip.not-reachable": Status.CANNOT_TELL, "server.stealth": Status.CANNOT_TELL}
    return Cell(device, faults, (INCONCLUSIVE,), NOTHING, states, ("nobody", *shows))


def _live(faults: str, *shows: str) -> list[Cell]:
    """The live and well protected sites, with these faults."""
    return [
        _protected("sip-only", f"{faults} only=udp/5060".strip(), "udp/5060", *shows),
        _protected("web-only", f"{faults} only=tcp/443".strip(), "tcp/443", *shows),
        _protected("refusing", faults, "", *shows, breaks=PING),
    ]


def _all_exposed(faults: str) -> list[Cell]:
    return [
        _exposed("exposed-server", EXPOSED, faults),
        _exposed("sip-only", SIP, faults),
        _exposed("admin-only", ADMIN, faults),
    ]


def _cells() -> Iterable[Cell]:
    for faults in ("router", "loss=0.05", "loss=0.2", "first-of-flow", "duplicated", "reordered"):
        yield from _all_exposed(faults)
        yield from _live(faults, *(() if "loss=" in faults else ("somebody",)))
        # The one open door in a silent wall, and ping says that somebody is there: the hardest to see.
        yield _exposed("sip-only", SIP, f"{faults} only=udp/5060+icmp")
        yield _exposed("admin-only", ADMIN, f"{faults} only=tcp/8080+icmp")
    for seconds in (1, 2):
        yield from _all_exposed(f"slow={seconds}")
        yield _exposed("exposed-server", EXPOSED, f"late={seconds}")
        yield _exposed("sip-only", SIP, f"slow={seconds} only=udp/5060+icmp")
        yield from _live(f"slow={seconds}")
    never_go = (NO_GO, INCONCLUSIVE)
    yield Cell("exposed-server", "slow=5", never_go, EXPOSED)
    yield Cell("sip-only", "slow=5", never_go, SIP)
    yield Cell("sip-only", "slow=5 only=udp/5060+icmp", never_go, SIP)
    yield Cell("exposed-server", "late=5", never_go, EXPOSED)

    for faults in ("dark=1", "dark=8", "dark=60", "loss=0.2 dark=20"):
        yield Cell("exposed-server", faults, (INCONCLUSIVE, NO_GO), EXPOSED)
    yield Cell("sip-only", "dark=12 only=udp/5060", (INCONCLUSIVE,), expect="udp/5060", shows=("went dark",))
    yield Cell("refusing", "dark=12", (INCONCLUSIVE,), PING, shows=("went dark",))

    for by in ("router", "host"):
        yield _protected("sip-only", f"prohibited-by-{by}=udp/5060", "udp/5060", "somebody")
    yield _protected("sip-only", "few-errors=1 prohibited-by-router=udp/5060", "udp/5060", "the router's word")
    yield _protected("sip-only", "loss=0.05 prohibited-by-router=udp/5060", "udp/5060")
    yield _protected("refusing", "few-errors=1", "", breaks=PING)
    yield _exposed("exposed-server", EXPOSED, "few-errors=1")

    yield _nobody("")
    yield _nobody("router", "the last hop")
    yield _nobody("loss=0.2 router")
    yield _nobody("unreachable", "the router's word")
    yield _nobody("few-errors=1 router unreachable", "the router's word")
    yield _nobody("prohibited-by-router", "the router's word")
    yield _nobody("dead", device="exposed-server")
    yield Cell("nobody", "", (GO, INCONCLUSIVE), shows=("nobody",), present=PERSON)
    yield Cell("nobody", "sip-helper", (INCONCLUSIVE, GO), shows=("a middlebox",), present=PERSON)

    for helper in ("sip-helper", "sip-helper-resets", "syn-proxy"):
        yield Cell("nobody", helper, (INCONCLUSIVE,), shows=("a middlebox",))
        yield Cell("nobody", f"loss=0.2 {helper}", (INCONCLUSIVE,))
        yield _protected("sip-only", f"{helper} only=udp/5060", "udp/5060", "a middlebox")
    yield _exposed("exposed-server", EXPOSED, "sip-helper", "a middlebox")
    yield _exposed("exposed-server", SIP, "syn-proxy", "a middlebox")

    yield _nobody("from-elsewhere", device="exposed-server")
    yield Cell("exposed-server", "from-another-port", never_go, SIP)
    yield Cell("sip-only", "from-another-port", never_go, SIP)


CELLS: Mapping[str, Cell] = {cell.name: cell for cell in _cells()}


# --- held against the truth -----------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """One scan beside the truth: what was wrong with it, in kinds that are counted."""

    cell: Cell
    seen: Seen
    false_go: bool
    false_alarm: tuple[str, ...]
    wrong: tuple[str, ...]  # anything else that had to come out otherwise

    @property
    def could_be_better(self) -> bool:
        """Whether it is inconclusive without need."""
        return self.seen.verdict is INCONCLUSIVE and self.cell.allowed[0] is not INCONCLUSIVE

    @property
    def mistakes(self) -> list[str]:
        """Sentences; empty when all is as it must be."""
        told = [f"a false GO: {' '.join(self.seen.because)[:300]}"] if self.false_go else []
        told += [f"a false alarm: {what}" for what in self.false_alarm]
        return [*told, *self.wrong]


def judge(cell: Cell, seen: Seen) -> Judged:
    """Hold a scan against what is true of its cell."""
    served = {f"{'udp' if one.transport == 'udp' else 'tcp'}/{one.port}" for one in STANDING[cell.device] or ()}
    alarms = [f"{key} is not met" for key, state in seen.states.items() if state == Status.NOT_MET]
    alarms = [alarm for alarm in alarms if alarm.split()[0] not in cell.breaks]
    alarms += [f"{key} is {service}" for key, service in seen.open.items() if service and key not in served]
    wrong = [f"{key} is met" for key in sorted(cell.breaks) if seen.states[key] == Status.MET]
    if seen.verdict not in cell.allowed and seen.verdict is not GO:
        wrong.append(f"the verdict is {seen.verdict}: {' '.join(seen.because)[:300]}")
    wrong += [
        f"{key} is {seen.states[key]}, not {state}" for key, state in cell.states.items() if seen.states[key] != state
    ]
    wrong += [f"it does not show {what}" for what in cell.shows if not SHOWS[what](seen)]
    return Judged(cell, seen, seen.verdict is GO and GO not in cell.allowed, tuple(alarms), tuple(wrong))


def summary(judged: Sequence[Judged]) -> str:
    """The figures, one a line."""
    lossy = sum(one.cell.lossy for one in judged)
    figures = {
        "scans": f"{len(judged)} of {len({one.cell.name for one in judged})} cells, {lossy} of them with loss",
        "false GO (must be 0)": sum(one.false_go for one in judged),
        "false alarm (must be 0)": sum(bool(one.false_alarm) for one in judged),
        "otherwise wrong (must be 0)": sum(bool(one.wrong) for one in judged),
        "inconclusive where a better verdict was possible": sum(one.could_be_better for one in judged),
        "seconds a scan, median and most": _spread([one.seen.seconds for one in judged]),
        "lateness of the scanner at worst": f"{max((one.seen.lag_ms for one in judged), default=0):.0f} ms",
    }
    return "\n".join(f"{what}: {figure}" for what, figure in figures.items())


def _spread(values: list[float]) -> str:
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2]:.1f} and {ordered[-1]:.1f}" if ordered else "none"


# --- scanning -------------------------------------------------------------------------------------


def run(cells: Sequence[Cell], *, repeat: int = 1, seed: int = 1) -> list[Judged]:
    """Scan each cell, a lossy one `repeat` times, in workers with networks of their own.

    Raises:
        RuntimeError: a worker failed; its words.
    """
    wanted = [name for cell in cells for name in [cell.name] * (repeat if cell.lossy else 1)]
    shares = [wanted[start::WORKERS] for start in range(WORKERS)]
    with ThreadPoolExecutor(WORKERS) as pool:
        jobs = [pool.submit(_worker, share, seed + number) for number, share in enumerate(shares) if share]
        return [judge(CELLS[name], seen) for job in jobs for name, seen in job.result()]


def _worker(names: Sequence[str], seed: int) -> list[tuple[str, Seen]]:
    inside = [sys.executable, "-m", "exposure_scan.lab.namespace", "--", sys.executable, __file__, "--work"]
    words = json.dumps({"names": names, "seed": seed})
    ended = subprocess.run(inside, input=words, capture_output=True, text=True, timeout=LIMIT, check=False)
    if ended.returncode:
        raise RuntimeError(f"a worker ended with {ended.returncode}: {ended.stderr[-2000:]}")
    told = [json.loads(row) for row in ended.stdout.splitlines()]
    return [(row["name"], Seen(**{**row["seen"], "verdict": Verdict(row["seen"]["verdict"])})) for row in told]


def _work() -> None:
    share = json.loads(sys.stdin.read())
    names: list[str] = share["names"]
    for number, start in enumerate(range(0, len(names), ON_ONE_LINE)):
        cells = [CELLS[name] for name in names[start : start + ON_ONE_LINE]]
        places = [Place(at, cell.device, tuple(cell.faults.split())) for at, cell in enumerate(cells, 1)]
        with line(Quality(RTT_MS, seed=share["seed"] * 1000 + number), places):
            asyncio.run(_scan_all(list(zip(cells, places, strict=True))))


async def _scan_all(pairs: Sequence[tuple[Cell, Place]]) -> None:
    free = asyncio.Semaphore(AT_ONCE)

    async def one(cell: Cell, place: Place) -> None:
        async with free:
            start = time.monotonic()
            words: scope.Words = {"device": "server", "expect": cell.expect, "present": cell.present}
            order = scope.order_from_words([place.address], authorized_by="practice site", **words)
            result = await sweep.scan_site(order)
            seen = _seen(result.scan, time.monotonic() - start)
        sys.stdout.write(json.dumps({"name": cell.name, "seen": asdict(seen)}) + "\n")

    await asyncio.gather(*(one(cell, place) for cell, place in pairs))


def _seen(scan: Scan, seconds: float) -> Seen:
    host: Host = scan.hosts[0]
    return Seen(
        verdict=scan.verdict,
        states={finding.practice: finding.status for finding in scan.findings},
        because=scan.because,
        open={port.key: port.service for port in host.ports if port.state == "open"},
        alive=host.alive.proven,
        middlebox=host.path.middlebox,
        dark=host.path.dark.port if host.path.dark else None,
        last_hop=host.path.last_hop.address if host.path.last_hop else None,
        errors=[error.by for error in host.path.errors],
        loss=host.path.loss,
        lag_ms=scan.lag_ms,
        seconds=round(seconds, 2),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Scan, say what was wrong and the figures; 1 where something had to be otherwise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=20, help="scans of each lossy cell")
    parser.add_argument("--only", default="", help="only cells whose name contains this")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--all", action="store_true", help="say of every cell what came out")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args(arguments)
    if words.work:
        _work()
        return 0
    if reason := available():
        sys.stderr.write(reason + "\n")
        return 4
    judged = run([cell for name, cell in CELLS.items() if words.only in name], repeat=words.repeat, seed=words.seed)
    for one in judged:
        if words.all or one.mistakes:
            sys.stdout.write(f"{one.cell.name}: {one.seen.verdict} in {one.seen.seconds} s\n")
            if one.could_be_better:
                sys.stdout.write(f"    no better because: {' '.join(one.seen.because)[:300]}\n")
        for mistake in one.mistakes:
            sys.stdout.write(f"    {mistake}\n")
    sys.stdout.write(summary(judged) + "\n")
    return 1 if not judged or any(one.mistakes for one in judged) else 0


if __name__ == "__main__":
    raise SystemExit(main())
