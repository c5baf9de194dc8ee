"""The tables of the history, and the steps by which an older database comes up to them.

Steps go forward only, and a step that was released never changes: a table that looks otherwise later keeps its
old shape for the step that made it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect

from exposure_scan.model import Status


class Moment(TypeDecorator[datetime]):
    """An aware time, kept in UTC; not every database knows zones."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """UTC without its zone."""
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without its zone")
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """UTC with its zone."""
        return None if value is None else value.replace(tzinfo=UTC)


METADATA = MetaData()
# MySQL gives 64 KiB to these unless a length is asked for; others know none, or forbid one.
_BYTES = LargeBinary().with_variant(LargeBinary(2**32 - 1), "mysql", "mariadb")
_TEXT = Text().with_variant(Text(2**32 - 1), "mysql", "mariadb")

VERSION = Table("exposure_scan", METADATA, Column("version", Integer, nullable=False))

SITES = Table(
    "sites",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
)

SCANS = Table(
    "scans",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("site", ForeignKey("sites.id"), nullable=False),
    Column("scan", String(80), nullable=False, unique=True),  # the id that the JSON has
    Column("started", Moment, nullable=False),
    Column("finished", Moment, nullable=False),
    Column("verdict", String(20), nullable=False),
    Column("not_met", Integer, nullable=False),
    Column("cannot_tell", Integer, nullable=False),
    Column("undeclared", Integer, nullable=False),
    Column("open", Integer, nullable=False),
    Column("doors", _TEXT, nullable=False),  # JSON: address to port to state
    Column("document", _BYTES, nullable=False),  # the JSON of the scan, zlib
    Column("folder", _TEXT),  # where its report and evidence were written
    Column("found", String(64), nullable=False),  # SHA-256 of its findings, by `sum_of_statuses`
    Column("sum", String(64), nullable=False),  # SHA-256 of the row, by `sum_of_scan`
    Index("scans_of_site", "site", "started"),
)

FINDINGS = Table(
    "findings",
    METADATA,
    Column("scan", ForeignKey("scans.id", ondelete="CASCADE"), primary_key=True),
    Column("practice", String(80), primary_key=True),
    Column("host", String(60), primary_key=True),
    Column("status", String(20), nullable=False),
    Column("severity", String(20), nullable=False),
)

EVIDENCE = Table(
    "evidence",
    METADATA,
    Column("scan", ForeignKey("scans.id", ondelete="CASCADE"), primary_key=True),
    Column("file", String(400), primary_key=True),
    Column("sha256", String(64), nullable=False),
)

RUNS = Table(
    "runs",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("started", Moment, nullable=False),
    Column("finished", Moment),  # None: it was stopped, and the next sweep goes on with it
)

TASKS = Table(
    "tasks",
    METADATA,
    Column("run", ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("site", ForeignKey("sites.id"), primary_key=True),
    Column("scan", ForeignKey("scans.id", ondelete="SET NULL")),  # None: not scanned, or it failed
    Column("failed", Text),  # why no scan came of it
    Column("done", Moment),
)

MAIL = Table(
    "mail",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("site", ForeignKey("sites.id"), nullable=False),
    Column("scan", String(80), nullable=False),  # the JSON's id; a scan that failed has its run's
    Column("recipient", String(320), nullable=False),
    Column("state", String(20), nullable=False),  # queued, sending, sent, refused or unknown
    Column("tries", Integer, nullable=False),
    Column("next_try", Moment, nullable=False),
    Column("queued", Moment, nullable=False),
    Column("changed", Moment, nullable=False),
    Column("said", Text),  # what the server said last
    Column("urgent", Integer, nullable=False),
    Column("message", _BYTES, nullable=False),  # the whole message, RFC 5322, zlib
    Column("sum", String(64), nullable=False),  # SHA-256 of `message`
    UniqueConstraint("site", "scan", "recipient", name="one_mail_a_scan_and_recipient"),
    Index("mail_to_send", "state", "next_try"),
)

# What became of each practice on each host, whether or not its scans are still kept: a row where the status is
# another than at the scan before.
COURSES = Table(
    "courses",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("site", ForeignKey("sites.id"), nullable=False),
    Column("practice", String(80), nullable=False),
    Column("host", String(60), nullable=False),
    Column("at", Moment, nullable=False),  # when the scan began that found it so first
    Column("status", String(20)),  # None: not judged there any more
    Index("courses_of_site", "site", "at"),
)


def sum_of_scan(row: Mapping[str, Any]) -> str:
    """SHA-256, hex, of a row of `SCANS`: what a damaged disk changed in it is noticed."""
    words = [row[name] for name in ("scan", "verdict", "not_met", "cannot_tell", "undeclared", "open")]
    words += [row["doors"], row["found"], row["folder"], row["started"].timestamp(), row["finished"].timestamp()]
    return hashlib.sha256(json.dumps(words).encode() + row["document"]).hexdigest()


def sum_of_statuses(statuses: Mapping[tuple[str, str], Status]) -> str:
    """SHA-256, hex, of what a scan found, by practice and host."""
    words = sorted((*key, status.value) for key, status in statuses.items())
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()


def _first(connection: Connection) -> None:
    METADATA.create_all(connection, tables=[VERSION, SITES, SCANS, FINDINGS, EVIDENCE])


def _runs_and_mail(connection: Connection) -> None:
    METADATA.create_all(connection, tables=[RUNS, TASKS, MAIL])


def _courses(connection: Connection) -> None:
    from .courses import fill

    METADATA.create_all(connection, tables=[COURSES])
    fill(connection)


STEPS: tuple[Callable[[Connection], None], ...] = (_first, _runs_and_mail, _courses)
