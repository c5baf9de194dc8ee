"""The history in a database: sites, their scans, what was found, and the mail that waits.

SQLite by default, any database of SQLAlchemy by its URL. Each change is one transaction, so that a process that
is killed leaves either all of it or nothing.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from exposure_scan.model import PortState, Problem, Scan, Status, Verdict

from . import courses, pruning, states
from .changes import Look, look_of
from .opening import Database, open_database
from .outbox import Outbox
from .pruning import Pruned
from .states import State
from .tables import EVIDENCE, FINDINGS, MAIL, RUNS, SCANS, SITES, TASKS, sum_of_scan, sum_of_statuses

_MOST_LOOKS = 30  # earlier scans that a scan is compared with


@dataclass(frozen=True, slots=True)
class Kept:
    """A scan of the history, without its document."""

    site: str
    scan: str
    started: datetime
    verdict: Verdict
    not_met: int
    cannot_tell: int
    undeclared: int
    open: int
    folder: str | None


@dataclass(frozen=True, slots=True)
class Letter:
    """A message to be queued with a scan: to whom, whole (RFC 5322), and whether it cannot wait."""

    recipient: str
    message: bytes
    urgent: bool = False


def state_folder() -> Path:
    """Where the user's history and the locks of sweeps are kept."""
    from platformdirs import user_state_path

    return user_state_path("exposure-scan")


def default_url() -> str:
    """The database in the user's state folder."""
    return f"sqlite:///{state_folder() / 'history.sqlite3'}"


class Store:
    """An open history. Use `open_store`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.outbox = Outbox(database)

    def close(self) -> None:
        """Give the database back."""
        self._database.close()

    # --- runs ------------------------------------------------------------------------------------

    def begin_run(self, names: Iterable[str], now: datetime) -> tuple[int, bool]:
        """The run to work on, and whether it goes on with one that was stopped.

        A run that was stopped keeps its list; what is due meanwhile and not on it is added.
        """
        with self._database.writing() as db:
            stopped = db.scalar(select(RUNS.c.id).where(RUNS.c.finished.is_(None)).order_by(RUNS.c.id.desc()))
            run = stopped if stopped is not None else _inserted(db, insert(RUNS).values(started=now))
            ids = _site_ids(db, list(dict.fromkeys(names)))
            known = set(db.scalars(select(TASKS.c.site).where(TASKS.c.run == run)))
            new = [{"run": run, "site": id_} for id_ in ids.values() if id_ not in known]
            if new:
                db.execute(insert(TASKS), new)
            return run, stopped is not None

    def left_of(self, run: int) -> tuple[str, ...]:
        """The sites of a run that are neither scanned nor failed, in the order of their names."""
        query = select(SITES.c.name).join(TASKS, TASKS.c.site == SITES.c.id)
        query = query.where(TASKS.c.run == run, TASKS.c.done.is_(None)).order_by(SITES.c.name)
        with self._database.reading() as db:
            return tuple(db.scalars(query))

    def results_of(self, run: int) -> tuple[tuple[str, Verdict | None, str | None], ...]:
        """The sites of a run that are done: name, verdict, and why no scan came of it."""
        query = select(SITES.c.name, SCANS.c.verdict, TASKS.c.failed)
        query = query.join(TASKS, TASKS.c.site == SITES.c.id).outerjoin(SCANS, TASKS.c.scan == SCANS.c.id)
        query = query.where(TASKS.c.run == run, TASKS.c.done.is_not(None)).order_by(SITES.c.name)
        with self._database.reading() as db:
            return tuple((name, Verdict(verdict) if verdict else None, why) for name, verdict, why in db.execute(query))

    def end_run(self, run: int, now: datetime) -> None:
        """All of it is done."""
        with self._database.writing() as db:
            db.execute(update(RUNS).where(RUNS.c.id == run).values(finished=now))

    # --- scans -----------------------------------------------------------------------------------

    def add(
        self,
        scan: Scan,
        *,
        now: datetime,
        run: int | None = None,
        folder: Path | None = None,
        files: Mapping[str, str] | None = None,
        letters: Iterable[Letter] = (),
    ) -> None:
        """Keep a scan, tick it off in its run, and queue its mail: all of it or nothing.

        Args:
            scan: the scan; one that is kept already is not kept twice, nor is its mail, and only ticked off.
            now: the time of day.
            run: the run that it belongs to.
            folder: where its files were written.
            files: SHA-256, hex, of each file of its evidence.
            letters: the mail that goes with it.
        """
        look = look_of(scan)
        row = _row(scan, look, folder)
        with self._database.writing() as db:
            site = _site_ids(db, [scan.site.name])[scan.site.name]
            id_ = db.scalar(select(SCANS.c.id).where(SCANS.c.scan == scan.id))
            if id_ is None:
                courses.note(db, site, scan.started, look.statuses)
                id_ = _inserted(db, insert(SCANS).values(site=site, **row))
                _add_parts(db, id_, scan, look, files or {})
                _queue(db, site, scan.id, letters, now)
            if run is not None:
                task = (TASKS.c.run == run) & (TASKS.c.site == site)
                db.execute(update(TASKS).where(task).values(scan=id_, done=now))

    def add_failure(self, site: str, run: int, why: str, *, now: datetime, letters: Iterable[Letter] = ()) -> None:
        """Tick a site off that could not be scanned, and queue the mail about it."""
        with self._database.writing() as db:
            id_ = _site_ids(db, [site])[site]
            task = (TASKS.c.run == run) & (TASKS.c.site == id_)
            db.execute(update(TASKS).where(task).values(failed=why[:1000], done=now))
            _queue(db, id_, f"run {run}", letters, now)

    def looks(self, site: str, *, most: int = _MOST_LOOKS) -> tuple[Look, ...]:
        """The last scans of a site, to compare another with; the oldest first, and it knows what was before it."""
        with self._database.reading() as db:
            columns = (SCANS.c.id, SCANS.c.site, SCANS.c.started, SCANS.c.verdict, SCANS.c.doors, SCANS.c.found)
            query = select(*columns).join(SITES)
            query = query.where(SITES.c.name == site).order_by(SCANS.c.started.desc(), SCANS.c.id.desc()).limit(most)
            rows = list(db.execute(query))[::-1]
            if not rows:
                return ()
            first = rows[0]
            statuses: dict[int, dict[tuple[str, str], Status]] = {row.id: {} for row in rows}
            found = select(FINDINGS.c.scan, FINDINGS.c.practice, FINDINGS.c.host, FINDINGS.c.status).join(SCANS)
            found = found.where(SCANS.c.site == first.site, SCANS.c.started >= first.started)
            for scan, practice, host, status in db.execute(found):
                if scan in statuses:
                    statuses[scan][practice, host] = Status(status)
            if any(sum_of_statuses(statuses[row.id]) != row.found for row in rows):
                raise ValueError("the findings of a scan are not what was written")
            before = courses.read(db, first.site, before=first.started)
            looks = [Look(site, row.started, Verdict(row.verdict), statuses[row.id], _doors(row.doors)) for row in rows]
        return (replace(looks[0], earlier=before), *looks[1:])

    def last_scans(self) -> Mapping[str, Kept]:
        """The last scan of every site, by the site's name."""
        with self._database.reading() as db:
            return {row.name: _as_kept(row) for row in db.execute(_kept().where(SCANS.c.id == pruning.last_of_site()))}

    def last_attempts(self) -> Mapping[str, datetime]:
        """When each site was last scanned, or could not be, by the site's name."""
        scanned = select(SITES.c.name, func.max(SCANS.c.started)).join(SCANS, SCANS.c.site == SITES.c.id)
        failed = select(SITES.c.name, func.max(TASKS.c.done)).join(TASKS, TASKS.c.site == SITES.c.id)
        failed = failed.where(TASKS.c.failed.is_not(None))
        found: dict[str, datetime] = {}
        with self._database.reading() as db:
            for query in (scanned, failed):
                for name, at in db.execute(query.group_by(SITES.c.name)):
                    found[name] = max(at, found.get(name, at))
        return found

    def failures(self) -> Mapping[str, tuple[int, str]]:
        """How often each site could not be scanned since its last scan, and why; sites without failure are left out."""
        with self._database.reading() as db:
            return states.failures(db)

    def states(self) -> Iterator[State]:
        """How every site that was scanned stands, one after the other."""
        with self._database.reading() as db:
            yield from states.states(db)

    def scans_of(self, site: str, *, most: int = 1000) -> tuple[Kept, ...]:
        """The scans of a site, the newest first.

        Raises:
            Problem: no scan of such a site was kept.
        """
        query = _kept().where(SITES.c.name == site).order_by(SCANS.c.started.desc(), SCANS.c.id.desc()).limit(most)
        with self._database.reading() as db:
            found = tuple(map(_as_kept, db.execute(query)))
            if not found:
                raise Problem(f"No scan of {site!r} is in the history; {self._known(db)}")
        return found

    def document(self, scan: str) -> str:
        """The JSON of a scan that was kept.

        Raises:
            Problem: it was not kept, or was pruned.
        """
        with self._database.reading() as db:
            packed = db.scalar(select(SCANS.c.document).where(SCANS.c.scan == scan))
            if packed is None:
                raise Problem(f"The scan {scan!r} is not in the history.")
            return zlib.decompress(packed).decode()

    def last_mail(self, site: str, recipients: Iterable[str]) -> datetime | None:
        """When these recipients were last written to about a site, by when it was queued."""
        query = select(func.max(MAIL.c.queued)).join(SITES, MAIL.c.site == SITES.c.id)
        query = query.where(SITES.c.name == site, MAIL.c.recipient.in_(tuple(recipients)))
        with self._database.reading() as db:
            found: datetime | None = db.scalar(query)
        return found

    def prune(self, before: datetime) -> Pruned:
        """Remove the scans that began before a time, the last of each site kept, and their files; see `pruning`."""
        with self._database.writing() as db:
            done = pruning.prune(db, before)
        self._database.shrink()
        return done

    def _known(self, db: Connection) -> str:
        names = list(db.scalars(select(SITES.c.name).order_by(SITES.c.name).limit(8)))
        return f"it knows: {', '.join(repr(name[:60]) for name in names)}." if names else "it is empty."


# --- opening --------------------------------------------------------------------------------------


@contextmanager
def open_store(url: str | None = None) -> Iterator[Store]:
    """The history at a URL of SQLAlchemy, by default the user's own; made, or brought up to this version, where needed.

    Raises:
        Problem: the URL is wrong, the database cannot be opened, is damaged, is none of this program's, or is
            of a newer version. It is left as it is then.
    """
    with open_database(url or default_url()) as database:
        yield Store(database)


# --- pieces ---------------------------------------------------------------------------------------


def _inserted(db: Connection, statement: Any) -> int:
    key = db.execute(statement).inserted_primary_key
    if key is None:
        raise RuntimeError("the database gave no key")
    return int(key[0])


def _site_ids(db: Connection, names: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in (names[i : i + 500] for i in range(0, len(names), 500)):
        found |= {name: id_ for id_, name in db.execute(select(SITES.c.id, SITES.c.name).where(SITES.c.name.in_(part)))}
    for name in names:
        if name not in found:
            found[name] = _inserted(db, insert(SITES).values(name=name))
    return {name: found[name] for name in names}


def _row(scan: Scan, look: Look, folder: Path | None) -> dict[str, Any]:
    point = look.point
    row = {
        "scan": scan.id,
        "started": scan.started,
        "finished": scan.finished,
        "verdict": scan.verdict.value,
        "not_met": point.not_met,
        "cannot_tell": point.cannot_tell,
        "undeclared": point.undeclared,
        "open": point.open,
        "doors": json.dumps(look.doors, separators=(",", ":")),
        "found": sum_of_statuses(look.statuses),
        "document": zlib.compress(scan.to_json().encode(), 6),
        "folder": None if folder is None else os.path.abspath(folder),  # it is found from any other folder
    }
    return row | {"sum": sum_of_scan(row)}


def _add_parts(db: Connection, id_: int, scan: Scan, look: Look, files: Mapping[str, str]) -> None:
    severities = {(finding.practice, finding.host): finding.severity.value for finding in scan.findings}
    found = [
        {"scan": id_, "practice": key[0], "host": key[1], "status": status.value, "severity": severities[key]}
        for key, status in look.statuses.items()
    ]
    if found:
        db.execute(insert(FINDINGS), found)
    if files:
        db.execute(insert(EVIDENCE), [{"scan": id_, "file": file, "sha256": sum_} for file, sum_ in files.items()])


def _queue(db: Connection, site: int, scan: str, letters: Iterable[Letter], now: datetime) -> None:
    known = set(db.scalars(select(MAIL.c.recipient).where(MAIL.c.scan == scan, MAIL.c.site == site)))
    rows = []
    for letter in letters:
        if letter.recipient not in known:
            known.add(letter.recipient)
            message = zlib.compress(letter.message, 6)
            rows.append(
                {
                    "site": site,
                    "scan": scan,
                    "recipient": letter.recipient,
                    "state": "queued",
                    "tries": 0,
                    "next_try": now,
                    "queued": now,
                    "changed": now,
                    "urgent": int(letter.urgent),
                    "message": message,
                    "sum": sha256(message).hexdigest(),
                }
            )
    if rows:
        db.execute(insert(MAIL), rows)


def _kept() -> Any:
    columns = (SCANS.c.scan, SCANS.c.started, SCANS.c.verdict, SCANS.c.not_met, SCANS.c.cannot_tell)
    return select(SITES.c.name, *columns, SCANS.c.undeclared, SCANS.c.open, SCANS.c.folder).join(
        SITES, SCANS.c.site == SITES.c.id
    )


def _as_kept(row: Row[Any]) -> Kept:
    return Kept(
        row.name,
        row.scan,
        row.started,
        Verdict(row.verdict),
        row.not_met,
        row.cannot_tell,
        row.undeclared,
        row.open,
        row.folder,
    )


def _doors(text: str) -> dict[str, dict[str, PortState]]:
    return {host: {key: PortState(state) for key, state in doors.items()} for host, doors in json.loads(text).items()}
