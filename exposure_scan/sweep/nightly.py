"""The sweep: the sites that are due, many at once, each result kept as it ends, and the mail that follows."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from exposure_scan import classify, evidence, files, history, scope
from exposure_scan.history.opening import shown_url
from exposure_scan.history.store import Letter, Store, state_folder
from exposure_scan.model import Past, Problem, Scan, Verdict
from exposure_scan.model.text import file_name
from exposure_scan.transport import Gate

from . import letters, pages
from .due import due
from .redacted import redacted
from .scanning import Notice, Result, now, scan_site
from .waiting import stop_wanted

log = logging.getLogger("exposure_scan")

_AT_ONCE, _AT_MOST = 64, 256  # sites: more would wait for this process and not for the network
_OF_ONE = 50.0  # packets a second that a site takes on the average while it is under way
_LOOK = 0.2  # seconds between two looks for the stop file
PACKETS_PER_SECOND = 2000.0  # to all sites together


@dataclass(frozen=True, slots=True)
class Settings:
    """How a sweep goes.

    `everything` scans all sites, due or not. `stop_file` is looked for before each site and while one is
    scanned: as soon as it is there, nothing more is sent.
    """

    out: Path
    everything: bool = False
    stop_file: Path | None = None
    at_once: int | None = None  # None: as many as the pace feeds
    packets_per_second: float = PACKETS_PER_SECOND
    post: letters.Post | None = None  # None: no mail is written
    known: classify.Known | None = None

    @property
    def places(self) -> int:
        """How many sites are scanned at once."""
        return self.at_once or min(_AT_MOST, max(_AT_ONCE, round(self.packets_per_second / _OF_ONE)))


@dataclass(frozen=True, slots=True)
class Ended:
    """A site that is done: with its scan, or with why there is none."""

    site: str
    verdict: Verdict | None
    why: str = ""


@dataclass(slots=True)
class Sweep:
    """What came of a sweep."""

    continued: bool = False  # it went on with one that was stopped
    stopped: bool = False  # by the stop file; what is left is scanned by the next sweep
    ended: list[Ended] = field(default_factory=list)

    def numbers(self) -> dict[str, int]:
        """How many sites ended how, the worst first; what none came to is left out."""
        words = {None: "not scanned", Verdict.NO_GO: "no-go", Verdict.INCONCLUSIVE: "inconclusive", Verdict.GO: "go"}
        found = {word: sum(one.verdict is verdict for one in self.ended) for verdict, word in words.items()}
        return {word: number for word, number in found.items() if number}


# --- one sweep at a time --------------------------------------------------------------------------


@contextlib.contextmanager
def only_one(url: str) -> Iterator[None]:
    """Keep a second sweep of the same history away while the block runs; the system lets go when the process ends.

    Raises:
        Problem: another sweep is at work.
    """
    folder = state_folder()
    files.make_folder(folder, "set XDG_STATE_HOME")
    path = folder / f"sweep-{hashlib.sha256(shown_url(url).encode()).hexdigest()[:16]}.lock"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(files.locked(path))
        except BlockingIOError:
            raise Problem(f"Another sweep of this history is at work ({path}); wait until it has ended.") from None
        except OSError as error:
            raise Problem(f"The lock {path} cannot be made ({error.strerror}); set XDG_STATE_HOME.") from None
        yield


# --- the sweep ------------------------------------------------------------------------------------


async def sweep(
    orders: Sequence[scope.Order],
    store: Store,
    settings: Settings,
    *,
    notice: Notice = lambda _: None,
    told: Callable[[Ended, int, int], None] = lambda _, __, ___: None,
    clock: Callable[[], datetime] = now,
) -> Sweep:
    """Scan what is due, keep each result as it ends, and queue the mail with it.

    A sweep that was stopped at any moment is gone on with: what its run had done is not done again.

    Args:
        orders: the sites.
        store: the history.
        settings: how.
        notice: hears of each site's progress.
        told: hears of each site that ended, with how many are done and how many there are.
        clock: the time of day.
    """
    wanted = orders if settings.everything else due(orders, store.last_attempts(), clock())
    by_name = {order.site.name: order for order in orders}
    run, continued = store.begin_run([order.site.name for order in wanted], clock())
    found = Sweep(continued=continued)
    left = list(store.left_of(run))
    done, of = len(store.results_of(run)), len(store.results_of(run)) + len(left)

    def ended(one: Ended) -> None:
        nonlocal done
        done += 1
        found.ended.append(one)
        told(one, done, of)

    for name in [name for name in left if name not in by_name]:
        why = "The sites file names it no more."
        store.add_failure(name, run, why, now=clock())
        ended(Ended(name, None, why))
    queue = [by_name[name] for name in left if name in by_name]
    gate = Gate(clock=clock, packets_per_second=settings.packets_per_second)
    async with gate.lag.measured(), _until(settings.stop_file, gate) as stopped:
        waiting = iter(queue)

        async def work() -> None:
            for order in waiting:  # shared: each order goes to one worker
                if stopped.is_set():
                    return
                await _one(order, store, run, settings, gate, notice, clock, ended)

        workers = [asyncio.create_task(work()) for _ in range(min(settings.places, len(queue)))]
        stop = asyncio.create_task(stopped.wait())
        try:
            pending: set[asyncio.Task[object]] = {*workers}
            while pending and not stop.done():
                finished, rest = await asyncio.wait({*pending, stop}, return_when=asyncio.FIRST_COMPLETED)
                for task in () if gate.stopped else finished - {stop}:
                    task.result()
                pending = rest - {stop}
        finally:
            for task in (*workers, stop):
                task.cancel()
            await asyncio.gather(*workers, stop, return_exceptions=True)
        found.stopped = stopped.is_set()
    if not store.left_of(run):
        store.end_run(run, clock())
    return found


@contextlib.asynccontextmanager
async def _until(stop_file: Path | None, gate: Gate) -> AsyncIterator[asyncio.Event]:
    """An event that is set as soon as the file is there; the gate lets nothing out from then on."""
    stopped = asyncio.Event()

    def there() -> bool:
        if not stop_wanted(stop_file):
            return False
        gate.stop()
        stopped.set()
        return True

    async def look() -> None:
        while not there():  # noqa: ASYNC110 - nobody but the file system knows
            await asyncio.sleep(_LOOK)

    there()
    task = asyncio.create_task(look())
    try:
        yield stopped
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _one(
    order: scope.Order,
    store: Store,
    run: int,
    settings: Settings,
    gate: Gate,
    notice: Notice,
    clock: Callable[[], datetime],
    ended: Callable[[Ended], None],
) -> None:
    """One site, from its packets to the history. Whatever fails in it stays in it."""
    name = order.site.name
    try:
        result = await scan_site(order, known=settings.known, notice=notice, gate=gate)
        keeping = asyncio.create_task(asyncio.to_thread(_keep, order, result, store, run, settings, clock()))
        try:
            await asyncio.shield(keeping)
        except asyncio.CancelledError:
            await keeping  # no thread can be stopped: the site is kept, and so it has ended
            ended(Ended(name, result.scan.verdict))
            raise
        ended(Ended(name, result.scan.verdict))
    except Exception as error:  # the one spot where a site's failure becomes a value
        if gate.stopped:
            raise  # no failure: the next sweep scans it
        log.debug("site %s failed", name, exc_info=error)
        why = "; ".join(error.sentences) if isinstance(error, Problem) else f"{type(error).__name__}: {error}"
        post, to = settings.post, order.partner.get("mail")
        mail: tuple[Letter, ...] = ()
        if post is not None and to:
            mail = (letters.failure_letter(name, run, why, to, post, clock()),)
        store.add_failure(name, run, why, now=clock(), letters=mail)
        ended(Ended(name, None, why))


def _keep(order: scope.Order, result: Result, store: Store, run: int, settings: Settings, at: datetime) -> None:
    """Write the site's folder, then the history and its mail in one transaction: a kill leaves no half of it."""
    scan = result.scan
    looks = store.looks(scan.site.name)
    past = history.past(scan, looks)
    folder = settings.out / file_name(scan.site.name)
    pages.write_site(folder, result, past)
    mail: tuple[Letter, ...] = ()
    if settings.post is not None and order.report_to:
        last = store.last_mail(scan.site.name, order.report_to)
        if letters.wanted(order, scan, past, last):
            told = past if last is None else history.past(scan, [look for look in looks if look.at <= last])
            mail = _letters(order, scan, past, settings.post, told)
    store.add(scan, now=at, run=run, folder=folder, files=evidence.sums(folder), letters=mail)


def _letters(order: scope.Order, scan: Scan, past: Past, post: letters.Post, told: Past) -> tuple[Letter, ...]:
    """The customer's mail, made from the copy that may leave the partner's hands; none where there is no copy."""
    try:
        copy = redacted(scan)
    except Problem as problem:
        log.warning("%s: no mail: %s", scan.site.name, problem)
        return ()
    return letters.letters(order, copy, past, pages.practice_texts(), post, told)
