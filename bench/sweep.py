"""What a sweep of many sites costs: seconds and memory for 10, 100 and 1,000 sites, and a history of 100,000.

The sites are addresses of this private network that refuse every port. Run by `make bench`.
"""

from __future__ import annotations

import asyncio
import resource
import tempfile
import time
import zlib
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import IPv4Address
from pathlib import Path

from sqlalchemy import insert

from exposure_scan import assess, scope
from exposure_scan.history.store import open_store
from exposure_scan.history.tables import COURSES, SCANS, SITES
from exposure_scan.lab.network import add_address
from exposure_scan.sweep import due, fleet, nightly

NUMBERS = (10, 100, 1_000)
MANY = 100_000
AT = datetime(2026, 11, 1, 3, tzinfo=UTC)


def peak() -> float:
    """The most memory that this process had so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def address(number: int) -> str:
    return str(IPv4Address("198.18.16.0") + number)


def order(number: int) -> scope.Order:
    return scope.order_from_words([address(number)], authorized_by="a benchmark", name=f"site {number}")


def sweep(number: int, folder: Path) -> tuple[float, float]:
    """Seconds on the clock and of CPU for a sweep of so many sites."""
    orders = [order(one) for one in range(number)]
    began, cpu = time.monotonic(), time.process_time()
    with open_store(f"sqlite:///{folder / f'{number}.sqlite3'}") as store:
        settings = nightly.Settings(out=folder / str(number), everything=True)
        found = asyncio.run(nightly.sweep(orders, store, settings))
        assert len(found.ended) == number
        assert all(one.verdict is not None for one in found.ended)
    return time.monotonic() - began, time.process_time() - cpu


def simulate(folder: Path) -> None:
    """A history of many sites with two scans each, and what the commands take with it."""
    practices = [practice.id for practice in assess.practices()]
    with open_store(f"sqlite:///{folder / 'many.sqlite3'}") as store:
        with store._database.writing() as db:
            for start in range(0, MANY, 1_000):
                ids = range(start + 1, start + 1_001)
                db.execute(insert(SITES), [{"id": id_, "name": f"site {id_}"} for id_ in ids])
                db.execute(insert(SCANS), [_scan(id_, night) for id_ in ids for night in range(2)])
                db.execute(insert(COURSES), [_course(id_, one, practices) for id_ in ids for one in range(24)])
        read = scope.SitesFile(folder / "sites.toml", tuple(order(one) for one in range(MANY)), {})
        for what, call in (
            ("history of one site", lambda: store.scans_of("site 77777")),
            ("what is due", lambda: due.due(read.orders, store.last_attempts(), AT)),
            ("fleet page and CSV", lambda: fleet.write(folder, read, store, AT + timedelta(days=2))),
        ):
            began = time.monotonic()
            call()
            print(f"  {MANY:,} sites: {what}: {time.monotonic() - began:.1f} s, peak {peak():.0f} MB")


def _scan(site: int, night: int) -> dict[str, object]:
    row: dict[str, object] = {
        "site": site,
        "scan": f"synthetic-{site}-{night}",
        "started": AT + timedelta(days=night),
        "finished": AT + timedelta(days=night, seconds=9),
        "verdict": "no-go" if site % 7 == 0 else "go",
        "not_met": int(site % 7 == 0),
        "cannot_tell": 0,
        "undeclared": 12,
        "open": 0,
        "doors": "{}",
        "document": zlib.compress(b"{}"),
        "folder": None,
        "found": sha256(b"").hexdigest(),
        "sum": "",
    }
    return row


def _course(site: int, one: int, practices: list[str]) -> dict[str, object]:
    broken = one == 0 and site % 7 == 0
    return {
        "site": site,
        "practice": practices[one],
        "host": address(site),
        "at": AT,
        "status": "not-met" if broken else "met",
    }


def main() -> None:
    for number in range(max(NUMBERS)):
        add_address(address(number))
    with tempfile.TemporaryDirectory() as name:
        for number in NUMBERS:
            seconds, cpu = sweep(number, Path(name))
            print(f"  {number:,} sites: {seconds:.1f} s, {cpu:.1f} s of CPU, peak {peak():.0f} MB")
        simulate(Path(name))


if __name__ == "__main__":
    main()
