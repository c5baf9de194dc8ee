"""What is old leaves the history: scans and their files, and nothing that is not known to be ours."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, ScalarSelect, delete, func, select, update

from . import courses
from .tables import EVIDENCE, FINDINGS, MAIL, RUNS, SCANS, SITES, TASKS

_SETTLED = ("sent", "refused", "unknown")
_NOTHING = zlib.compress(b"")


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed. `left` are files that could not be removed; their scans are kept until they can be."""

    scans: int
    files: tuple[Path, ...]
    left: tuple[Path, ...]


def last_of_site() -> ScalarSelect[int]:
    """The id of a site's last scan, inside a query that has `SITES`."""
    other = SCANS.alias()
    order = (other.c.started.desc(), other.c.id.desc())
    query = select(other.c.id).where(other.c.site == SITES.c.id).order_by(*order).limit(1)
    return query.correlate(SITES).scalar_subquery()


def prune(db: Connection, before: datetime) -> Pruned:
    """Remove the scans that began before a time, the last of each site kept.

    Their files go first, so that no file is left that nobody knows of when the process ends on the way. A file
    goes only where no scan that is kept names it, and its SHA-256 is one of those that were kept of it. What is
    known of each practice's course outlives its scans; that of addresses which are gone since then does not.
    """
    query = select(SCANS.c.id, SCANS.c.folder).join(SITES, SCANS.c.site == SITES.c.id)
    old = {
        row.id: row.folder for row in db.execute(query.where(SCANS.c.started < before, SCANS.c.id != last_of_site()))
    }
    removed: list[Path] = []
    left: dict[Path, None] = {}
    for folder, files in _files(db, old).items():
        done, stuck = _remove(folder, files)
        removed += done
        left |= dict.fromkeys(stuck)
    stuck_folders = {str(path.parent) for path in left}
    ids = [id_ for id_, folder in old.items() if folder not in stuck_folders]
    for part in courses.parts(ids):
        db.execute(update(TASKS).where(TASKS.c.scan.in_(part)).values(scan=None))
        for table in (FINDINGS, EVIDENCE):
            db.execute(delete(table).where(table.c.scan.in_(part)))
        db.execute(delete(SCANS).where(SCANS.c.id.in_(part)))
    courses.forget(db, before)
    _prune_runs_and_mail(db, before)
    return Pruned(len(ids), tuple(sorted(removed)), tuple(left))


def _prune_runs_and_mail(db: Connection, before: datetime) -> None:
    runs = list(db.scalars(select(RUNS.c.id).where(RUNS.c.finished < before)))
    for part in courses.parts(runs):
        db.execute(delete(TASKS).where(TASKS.c.run.in_(part)))
        db.execute(delete(RUNS).where(RUNS.c.id.in_(part)))
    # When somebody was written to last decides when they are written to next: that row stays, without its message.
    last = set(db.scalars(select(func.max(MAIL.c.id)).group_by(MAIL.c.site, MAIL.c.recipient)))
    old = select(MAIL.c.id).where(MAIL.c.queued < before, MAIL.c.state.in_(_SETTLED))
    ids = list(db.scalars(old))
    for part in courses.parts([id_ for id_ in ids if id_ not in last]):
        db.execute(delete(MAIL).where(MAIL.c.id.in_(part)))
    empty = {"message": _NOTHING, "sum": hashlib.sha256(_NOTHING).hexdigest()}
    for part in courses.parts([id_ for id_ in ids if id_ in last]):
        db.execute(update(MAIL).where(MAIL.c.id.in_(part)).values(**empty))


# --- files ----------------------------------------------------------------------------------------


def _files(db: Connection, old: Mapping[int, str | None]) -> dict[Path, dict[str, set[str]]]:
    """The files of these scans that no other scan names, by folder and name, with every SHA-256 they have had."""
    query = select(SCANS.c.id, SCANS.c.folder, EVIDENCE.c.file, EVIDENCE.c.sha256)
    rows: list[Any] = list(db.execute(query.join(EVIDENCE, EVIDENCE.c.scan == SCANS.c.id)))
    kept = {(row.folder, row.file) for row in rows if row.id not in old}
    found: dict[Path, dict[str, set[str]]] = {}
    for row in rows:
        if row.id in old and row.folder is not None and (row.folder, row.file) not in kept:
            found.setdefault(Path(row.folder), {}).setdefault(row.file, set()).add(row.sha256)
    return found


def _remove(folder: Path, files: Mapping[str, set[str]]) -> tuple[list[Path], list[Path]]:
    """Remove these files of a folder where they are what was written.

    Returns:
        Those that were removed, and those that could not be.
    """
    removed: list[Path] = []
    stuck: list[Path] = []
    try:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        gone = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # or it is none of ours any more
        return removed, [] if gone else [folder / name for name in files]
    try:
        for name, sums in sorted(files.items()):
            if name in ("", ".", "..") or "/" in name or "\0" in name:
                continue
            try:
                if _sum(name, place) in sums:
                    os.unlink(name, dir_fd=place)
                    removed.append(folder / name)
            except OSError:
                stuck.append(folder / name)
    finally:
        os.close(place)
    if removed:
        with suppress(OSError):  # something else is in it
            folder.rmdir()
    return removed, stuck


def _sum(name: str, place: int) -> str | None:
    """SHA-256, hex, of a plain file in an open folder; None where there is none."""
    try:
        if not stat.S_ISREG(os.stat(name, dir_fd=place, follow_symlinks=False).st_mode):
            return None
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    except FileNotFoundError:
        return None
    with open(handle, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
