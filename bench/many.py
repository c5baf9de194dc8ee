"""Many sites over one line, beside Nmap in the same run: time, CPU, memory, and what was missed.

A fifth of the sites is the practice server, the rest is silent. The line takes 40 ms there and back and loses what it
is told to. Run by `make bench`; needs /dev/net/tun. Peers that are not installed are left out, and said.

    python bench/many.py            the table
    python bench/many.py ours 20000 one run of ours at so many packets a second, as JSON
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from exposure_scan import lab, plan, scope, sweep
from exposure_scan.lab.devices import DEVICES
from exposure_scan.lab.line import NEAR, NOBODY, Place, Quality, line
from exposure_scan.model import Site
from exposure_scan.transport import Gate

SITES = 200
PLACES = tuple(Place(number, "exposed-server" if number % 5 == 0 else NOBODY) for number in range(1, SITES + 1))
SERVED = next(device.services for device in DEVICES if device.name == "exposed-server")
TRUTH = {
    (place.address, f"{'udp' if one.transport == 'udp' else 'tcp'}/{one.port}")
    for place in PLACES
    if place.device != NOBODY
    for one in SERVED
}
RATE = 20_000
LIMIT = 60  # seconds for a peer
HEAVY = ["--min-rate", "5000", "--max-retries", "1", "--min-hostgroup", "256"]

Found = set[tuple[str, str]]


def ports(transport: str) -> str:
    """The ports that a scan asks, as Nmap takes them."""
    asked = plan.questions(ip_address(NEAR), Site(name="bench", targets=(NEAR,)))
    return ",".join(str(one.port) for one in asked if one.transport == transport)


def ours(rate: float) -> None:
    """Scan and judge every site in this process, and print what came of it."""
    orders = iter([scope.order_from_words([place.address], authorized_by="a benchmark") for place in PLACES])
    found: list[tuple[str, str]] = []
    tries = 0
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)

    async def main() -> None:
        gate = Gate(packets_per_second=rate)

        async def work() -> None:
            nonlocal tries
            for order in orders:
                scan = (await sweep.scan_site(order, gate=gate)).scan
                tries += sum(proof.tries for proof in scan.evidence)
                found.extend(
                    (host.address, port.key) for host in scan.hosts for port in host.ports if port.state == "open"
                )

        async with gate.lag.measured():
            await asyncio.gather(*(work() for _ in range(SITES)))

    asyncio.run(main())
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {"open": found, "tries": tries, "cpu": usage.ru_utime + usage.ru_stime, "mb": usage.ru_maxrss / 1024}
        )
    )


def timed(command: list[str]) -> tuple[float, float, str]:
    """Seconds on the clock, of CPU, and what was printed; a peer that takes too long is ended."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    try:
        out = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT).stdout
    except subprocess.TimeoutExpired:
        out = ""
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - began, cpu, out


def of_nmap(out: str) -> Found:
    rows = re.findall(r"Host: (\S+) \(\)\tPorts: ([^\t\n]*)", out)
    return {
        (host, f"{transport}/{port}")
        for host, listed in rows
        for port, transport in re.findall(r"(\d+)/open/(tcp|udp)/", listed)
    }


def peers(targets: Path) -> dict[str, tuple[list[str], Callable[[str], Found]]]:
    """Each peer's command, and how its answer is read."""
    found: dict[str, tuple[list[str], Callable[[str], Found]]] = {}
    if nmap := shutil.which("nmap"):
        asked = ["-p", f"T:{ports('tcp')},U:{ports('udp')}", "-oG", "-", "-iL", str(targets)]
        found["nmap, pushed hard, no -sV"] = [nmap, "-n", "-Pn", "-sS", "-sU", *HEAVY, *asked], of_nmap
        found["nmap -T4, no -sV"] = [nmap, "-n", "-Pn", "-sS", "-sU", "-T4", "--max-retries", "2", *asked], of_nmap
    return found


def main() -> None:
    """Print the table."""
    assert lab.inside(), "run this by `make bench`"
    with tempfile.TemporaryDirectory() as name:
        targets = Path(name) / "targets"
        targets.write_text("".join(f"{place.address}\n" for place in PLACES))
        for loss in (0.0, 0.05):
            with line(Quality(rtt_ms=40, loss=loss), PLACES):
                print(
                    f"{SITES} sites, a fifth open, 40 ms, {loss:.0%} lost each way; {len(TRUTH)} open ports", flush=True
                )
                took, _, out = timed([sys.executable, __file__, "ours", str(RATE)])
                told = json.loads(out)
                missed = len(TRUTH - {(host, key) for host, key in told["open"]})
                each = told["cpu"] / told["tries"] * 1e6
                print(
                    f"  exposure-scan, recognised and judged: {took:.1f} s, {told['cpu']:.1f} s of CPU, "
                    f"{told['mb']:.0f} MB, {told['tries']:,} tries ({each:.0f} us each); missed {missed}",
                    flush=True,
                )
                for peer, (command, read) in peers(targets).items():
                    theirs, cpu, out = timed(command)
                    missed = len(TRUTH - read(out))
                    ended = "" if theirs < LIMIT else ", ended by the limit"
                    print(
                        f"  {peer}: {theirs:.1f} s{ended}, {cpu:.1f} s of CPU; missed {missed}; "
                        f"ours takes {took / theirs:.2f} of it",
                        flush=True,
                    )
    if shutil.which("nmap") is None:
        print("nmap is not installed, so there is no peer to compare with: apt-get install nmap")


if __name__ == "__main__":
    if sys.argv[1:2] == ["ours"]:
        ours(float(sys.argv[2]))
    else:
        main()
