"""How a history is opened: its file is private, older tables are brought up, and what is not ours is left as it is."""

from __future__ import annotations

import os
import sqlite3
import threading
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, delete, event, func, insert, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from exposure_scan import files
from exposure_scan.model import Problem

from .tables import MAIL, METADATA, SCANS, STEPS, VERSION, sum_of_scan

_WAIT = 30  # seconds for another process to end its transaction
_EXAMPLE = "sqlite:////var/lib/exposure-scan/history.sqlite3"
_LEAST = 512  # bytes of a database with one page; SQLite takes less for an empty one
_READS = "exposure_scan_reads"  # the option of a transaction that writes nothing


class Database:
    """An open database. Each block of `reading` and of `writing` is one transaction."""

    def __init__(self, engine: Engine, shown: str) -> None:
        self._engine = engine
        self._readers = engine.execution_options(**{_READS: True})
        self._shown = shown
        self._writer = threading.Lock()  # fair within this process; between processes the database queues them

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database."""
        with self._said(), self._readers.connect() as db:
            yield db

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is kept as a whole when the block ends, or not at all."""
        with self._writer, self._said(), self._engine.begin() as db:
            yield db

    def shrink(self) -> None:
        """Give the room of what was removed back to the disk, where the database does not do so by itself."""
        if self._engine.dialect.name == "sqlite":
            with self._writer, suppress(sqlite3.Error), closing(self._engine.raw_connection()) as db:
                for words in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):  # while others read, it waits for the next
                    db.cursor().execute(words)

    def close(self) -> None:
        """Give the database back."""
        self._engine.dispose()

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise  # a fault of ours
        except DatabaseError as error:
            raise Problem(f"The history {self._shown} cannot be used ({error.orig}).") from None
        except SQLAlchemyError:
            raise
        except (ValueError, zlib.error) as error:  # a word, or bytes, that nobody wrote there
            raise Problem(f"The history {self._shown} is damaged ({error}). Restore a copy of it.") from None


@contextmanager
def open_database(url: str) -> Iterator[Database]:
    """The database at a URL of SQLAlchemy; made, or brought up to this version, where needed.

    Raises:
        Problem: the URL is wrong, the database cannot be opened, is damaged, is none of this program's, or is
            of a newer version. It is left as it is then.
    """
    parsed, path = _place(url)
    shown = str(path) if path else _shown(parsed)
    if path is not None:
        _make(path)
        _examine(path)
    try:
        # As many connections as threads: the pool's own limit would be a second queue, with a shorter patience.
        more = {"connect_args": {"timeout": _WAIT}, "max_overflow": -1} if path else {"pool_pre_ping": True}
        engine = create_engine(parsed, **more)
    except (ArgumentError, NoSuchModuleError, ImportError, TypeError) as error:
        raise Problem(f"{shown} names no database that can be opened here ({error}).") from None
    try:
        if path is not None:
            event.listen(engine, "connect", _set_up)
            event.listen(engine, "begin", _begin)
        try:
            _come_up(engine, shown)
        except SQLAlchemyError as error:
            why = error.orig if isinstance(error, DatabaseError) else error
            raise Problem(f"The history {shown} cannot be opened for writing ({why}).") from None
        if path is not None:
            _close_to_others(path)
        yield Database(engine, shown)
    finally:
        engine.dispose()


def shown_url(url: str) -> str:
    """The URL as it may be shown and kept: without the password, and without what follows it, which may hold one.

    Raises:
        Problem: it is no URL.
    """
    return _shown(_place(url)[0])


def _shown(url: URL) -> str:
    return url.set(query={}).render_as_string(hide_password=True)


def _place(url: str) -> tuple[URL, Path | None]:
    """The URL, and the file where it names one."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise Problem(f"What was given for --db is no URL of SQLAlchemy; write it like {_EXAMPLE}.") from None
    if parsed.get_backend_name() != "sqlite":
        return parsed, None
    name = parsed.database or ""
    if name in ("", ":memory:") or name.startswith("file:"):
        raise Problem(f"{_shown(parsed)} names no file; a history is kept in one, as {_EXAMPLE}.")
    return parsed, Path(name)


# --- SQLite ---------------------------------------------------------------------------------------


def _make(path: Path) -> None:
    """Make the file and its folder, for their owner alone, and look whether both can be written.

    A file that is there is not opened: to close it would let go of the locks that this process has on it.
    """
    try:
        files.make_folder(path.parent, "choose another with --db")
        files.make_empty(path)
    except OSError as error:
        raise Problem(f"The history {path} cannot be made ({error.strerror}); choose another with --db.") from None
    if not path.is_file():
        raise Problem(f"The history {path} is no file; choose another with --db.")
    for place, word in ((path, "The history"), (path.parent, "The folder of the history")):
        if not os.access(place, os.R_OK | os.W_OK):
            raise Problem(f"{word} {place} cannot be read and written by this user; choose another with --db.")


def _examine(path: Path) -> None:
    """Look at the file without writing a byte of it or beside it.

    Raises:
        Problem: it is damaged, none of this program's, or of a newer version.
    """
    if 0 < path.stat().st_size < _LEAST:
        raise Problem(f"{path} is no SQLite database, or a damaged one; it was left as it is.")
    wal, journal = (path.with_name(path.name + end) for end in ("-wal", "-journal"))
    if wal.exists() or journal.exists():
        # Somebody is at work, or was killed. SQLite takes up what a killed one began; that is no change of ours.
        return _judge(path, "mode=rw" if journal.exists() else "mode=ro")
    try:
        _judge(path, "immutable=1")
    except Problem:
        if not (wal.exists() or journal.exists()):
            raise
        _judge(path, "mode=rw" if journal.exists() else "mode=ro")  # somebody has begun to write while we looked
    return None


def _judge(path: Path, how: str) -> None:
    def connect() -> sqlite3.Connection:
        return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=_WAIT)

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    try:
        with engine.connect() as db:
            found = db.exec_driver_sql("PRAGMA quick_check(1)").scalar()
            if found == "ok" and _version(db, str(path)):
                found = _wrong_sum(db)
    except DatabaseError as error:
        found = str(error.orig)
    except (ValueError, OverflowError, TypeError) as error:  # a time or a text that is none
        found = str(error)
    if found == "file is not a database":
        raise Problem(f"{path} is no SQLite database, or a damaged one; it was left as it is.")
    if found != "ok":
        raise Problem(f"The history {path} is damaged ({found}); it was left as it is. Restore a copy of it.")


def _wrong_sum(db: Connection) -> str:
    """The first row whose bytes are not those that were summed; ok where there is none."""
    tables = inspect(db).get_table_names()
    for row in db.execute(select(SCANS)).mappings():
        if sum_of_scan(dict(row)) != row["sum"]:
            return f"the scan {row['scan']!r} is not what was written"
    if MAIL.name in tables:
        for number, message, sum_ in db.execute(select(MAIL.c.id, MAIL.c.message, MAIL.c.sum)):
            if sha256(message).hexdigest() != sum_:
                return f"the mail {number} is not what was written"
    return "ok"


def _set_up(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # `_begin` begins transactions: sqlite3 would leave changes of tables outside
    cursor = connection.cursor()
    for word in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
        cursor.execute(f"PRAGMA {word}")
    cursor.close()


def _begin(db: Connection) -> None:
    # A transaction that writes says so at once: one that begins by reading could not wait for another's end.
    reads = db.get_execution_options().get(_READS)
    db.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _close_to_others(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        files.close_to_others(path.with_name(path.name + end))


# --- versions -------------------------------------------------------------------------------------


def _come_up(engine: Engine, shown: str) -> None:
    """Bring the tables up to this version, each step in a transaction of its own."""
    with engine.execution_options(**{_READS: True}).connect() as db:
        version = _version(db, shown)
    while version < len(STEPS):
        with engine.begin() as db:
            version = _version(db, shown)  # another process may have been faster
            if version < len(STEPS):
                STEPS[version](db)
                version += 1
                db.execute(delete(VERSION))
                db.execute(insert(VERSION).values(version=version))


def _version(db: Connection, shown: str) -> int:
    """The version of the tables; 0 where there are none.

    Raises:
        Problem: they are of another program, or of a newer version, or some are missing.
    """
    tables = set(inspect(db).get_table_names())
    if VERSION.name not in tables:
        if tables:
            raise Problem(f"{shown} holds tables of another program; it was left as it is. Choose another with --db.")
        return 0
    version = int(db.scalar(select(func.max(VERSION.c.version))) or 0)
    if version > len(STEPS):
        raise Problem(
            f"The history {shown} was written by a newer exposure-scan (version {version}, this one knows "
            f"{len(STEPS)}); it was left as it is. Update exposure-scan."
        )
    missing = sorted(set(METADATA.tables) - tables) if version == len(STEPS) else []
    if missing:
        raise Problem(f"The history {shown} is damaged (no table {missing[0]}); it was left as it is. Restore a copy.")
    return version
