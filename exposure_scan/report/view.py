"""The view model: a scan turned into what a reader needs, in the order in which a reader needs it.

Templates and the terminal only place what stands here; every decision about words, order and what to
leave out is made in this module. Text that came from outside is carried as it is: whoever shows it
makes it safe (`text`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from exposure_scan.model import Finding, Scan, Status

from . import words
from .brand import Brand, brand
from .course import Course, course
from .doubt import Fact, scan_facts
from .host import HostView, host_view
from .material import Material
from .proof import Proofs, proofs
from .sources import Sources, sources
from .verdict import Box, Step, box, steps
from .words import Mark

_WARNED = 30  # days before a word ends in which the report says so


@dataclass(frozen=True, slots=True)
class Count:
    """How many findings stand so."""

    mark: Mark
    number: int


@dataclass(frozen=True, slots=True)
class WaiverRow:
    """A waiver of the sites file and whether it still holds on the day of the scan."""

    practice: str
    title: str
    by: str
    until: str
    because: str
    expired: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Everything the report of one scan shows."""

    scan: Scan
    brand: Brand
    box: Box
    course: Course
    counts: tuple[Count, ...]
    steps: tuple[Step, ...]
    more_steps: int
    hosts: tuple[HostView, ...]
    facts: tuple[Fact, ...]  # of the scanner, the same for every host
    proofs: Proofs
    sources: Sources
    declared: tuple[tuple[str, str, str], ...]  # title, by, on with until
    undeclared: tuple[str, ...]
    waivers: tuple[WaiverRow, ...]
    started: str  # in UTC
    local: str  # the same at the scanner, where its clock goes by another time
    took: str
    on: str
    authorization: tuple[tuple[str, str], ...]
    statuses: tuple[Mark, ...]
    doors: tuple[Mark, ...]
    sha256: str


def page(material: Material) -> Page:
    """The whole report of one scan."""
    scan, practices = material.scan, material.practices
    texts = {text.id: text for text in practices}
    titles = {text.id: text.title for text in practices} | {f.practice: f.title for f in scan.findings}
    wanted = Status.UNDECLARED
    listed, more = steps(scan, texts)
    evidence = proofs(scan)
    return Page(
        scan=scan,
        brand=brand(scan),
        box=box(scan),
        course=course(scan, material.past),
        counts=counts(scan.findings),
        steps=listed,
        more_steps=more,
        hosts=tuple(host_view(number, host, scan, texts, evidence.ids) for number, host in enumerate(scan.hosts, 1)),
        facts=scan_facts(scan),
        proofs=evidence,
        sources=sources(scan),
        declared=tuple(
            (titles.get(id_, id_), word.by, f"{word.on}{_until(word.until, scan)}")
            for id_, word in scan.site.declares.items()
        ),
        undeclared=tuple(dict.fromkeys(f.title for f in scan.findings if f.status is wanted)),
        waivers=tuple(
            WaiverRow(
                waiver.practice,
                titles.get(waiver.practice, waiver.practice),
                waiver.by,
                f"{waiver.until}{_soon(waiver.until, scan)}",
                waiver.because,
                expired=waiver.until < words.utc(scan.started).date(),
            )
            for waiver in scan.site.waivers
        ),
        started=words.moment(scan.started),
        local=words.local(scan.started, scan.scanner.utc_offset, scan.scanner.zone) if scan.scanner.utc_offset else "",
        took=words.count(max(round((scan.finished - scan.started).total_seconds()), 0), "second", "seconds"),
        on=words.day(scan.started),
        authorization=tuple(_authorization(scan)),
        statuses=tuple(words.STATUSES.values()),
        doors=words.DOORS,
        sha256=hashlib.sha256(scan.to_json().encode()).hexdigest(),
    )


def _until(day: date | None, scan: Scan) -> str:
    if day is None:
        return ""
    over = " (expired)" if day < words.utc(scan.started).date() else _soon(day, scan)
    return f", until {day}{over}"


def _soon(day: date, scan: Scan) -> str:
    """`` (expires in 12 days)`` within the last 30 days of a word."""
    left = (day - words.utc(scan.started).date()).days
    return f" (expires in {words.count(left, 'day', 'days')})" if 0 <= left <= _WARNED else ""


def counts(findings: Iterable[Finding]) -> tuple[Count, ...]:
    """How many findings stand how, every status named, in the order in which a reader needs them."""
    statuses = [finding.status for finding in findings]
    return tuple(Count(mark, statuses.count(status)) for status, mark in words.STATUSES.items())


def _authorization(scan: Scan) -> Iterable[tuple[str, str]]:
    given = scan.authorization
    yield "Authorized by", given.by if not given.role else f"{given.by} ({given.role})"
    if given.on is not None:
        yield "Given on", words.date_text(given.on)
    yield "Valid until", "further notice" if given.until is None else words.moment(given.until)
    yield "Reference", given.reference or "none recorded"
