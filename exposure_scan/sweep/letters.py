"""Which mail goes out with a scan: to whom, when, and what it looks like."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from typing import Literal, TypeAlias

from exposure_scan import deliver, report, scope
from exposure_scan.history.store import Letter
from exposure_scan.model import Past, Problem, Scan, Severity, Status, Turn, Verdict
from exposure_scan.model.text import file_name, html_text

log = logging.getLogger("exposure_scan")

Attach: TypeAlias = Literal["html", "pdf", "both", "none"]

_TOLD_AT_ONCE = frozenset({Turn.NEW, Turn.BACK, Turn.FIXED, Turn.UNSEEN, Turn.OTHER})
_WEEK = timedelta(days=7)
# With "on-change": how long an open breach goes without a mail before it is called to mind.
_REMINDERS: Mapping[Severity, timedelta] = {
    Severity.CRITICAL: timedelta(days=7),
    Severity.HIGH: timedelta(days=14),
    Severity.MEDIUM: timedelta(days=30),
    Severity.LOW: timedelta(days=90),
}
_PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Not scanned</title></head><body>{}</body></html>'
)
_NAME, _WHY = 60, 500  # of a site's name in bytes or characters, and of why it was not scanned
_SLACK = timedelta(hours=6)  # a nightly scan that begins a little earlier than a week ago still counts as a week


@dataclass(frozen=True, slots=True)
class Post:
    """How mail is written: who sends it, and what goes with it."""

    sender: str
    sender_name: str
    attach: Attach = "html"


def wanted(order: scope.Order, scan: Scan, past: Past, last_mail: datetime | None) -> bool:
    """Whether the customer's mail is due with this scan, by the site's policy.

    Args:
        order: the site's order, with its policy.
        scan: the scan.
        past: how it stands against those before.
        last_mail: when the customer was last written to; None: never.
    """
    if last_mail is None or order.report_when == "every" or urgent(scan, past):
        return True
    silent = scan.started - last_mail + _SLACK
    if order.report_when == "weekly":
        return silent >= _WEEK
    if changed(scan, past):
        return True
    broken = (f.severity for f in scan.findings if f.status is Status.NOT_MET and f.waived is None)
    return any(silent >= _REMINDERS[severity] for severity in broken)


def changed(scan: Scan, past: Past) -> bool:
    """Whether there is anything to tell beside what still stands."""
    verdict = past.was is not None and past.was is not scan.verdict
    turns = any(change.turn in _TOLD_AT_ONCE for change in past.changes)
    return verdict or turns or bool(past.doors or past.came or past.went)


def urgent(scan: Scan, past: Past) -> bool:
    """Whether the site has become no-go. Doubt mends nothing: no-go, inconclusive, no-go is no change to it."""
    if scan.verdict is not Verdict.NO_GO or past.was in (None, Verdict.NO_GO):
        return False
    certain = [point.verdict for point in past.points[:-1] if point.verdict is not Verdict.INCONCLUSIVE]
    return not certain or certain[-1] is not Verdict.NO_GO


def letters(
    order: scope.Order,
    scan: Scan,
    past: Past,
    practices: Sequence[report.PracticeText],
    post: Post,
    told: Past | None = None,
) -> tuple[Letter, ...]:
    """The mail to each of the site's recipients, and to nobody else; to each once, however it is spelled.

    `past` decides whether it is urgent; `told` is what it tells, by default the same. Whoever is written to once a
    week is told what changed since that mail, not since last night.
    """
    pressing = urgent(scan, past)
    told = told or past
    subject = report.mail_subject(scan, told)
    parts = {name: report.render(scan, name, practices=practices, past=told) for name in ("mail-text", "mail-html")}
    files = tuple(_files(scan, told, practices, post.attach))
    found = []
    for recipient in _each_once(order.report_to):
        try:
            message = deliver.compose(
                sender=post.sender,
                sender_name=post.sender_name,
                recipient=recipient,
                subject=f"Urgent: {subject}" if pressing else subject,
                text=parts["mail-text"],
                html=parts["mail-html"],
                when=scan.finished,
                about=scan.id,
                thread=scan.site.name,
                first=past.last is None,
                urgent=pressing,
                attachments=files,
            )
        except Problem as problem:  # neither the scan nor the others' mail hangs on it
            log.warning("%s: no mail: %s", scan.site.name, problem)
            continue
        found.append(Letter(recipient, message, pressing))
    return tuple(found)


def _each_once(recipients: Sequence[str]) -> Iterable[str]:
    """In their order, one spelling of each: no server tells Owner@acme.example from owner@acme.example."""
    found: dict[str, str] = {}
    for recipient in recipients:
        found.setdefault(recipient.casefold(), recipient)
    return found.values()


def _files(
    scan: Scan, past: Past, practices: Sequence[report.PracticeText], attach: Attach
) -> Iterable[deliver.Attachment]:
    name = file_name(scan.site.name, _NAME)
    for format_, kind in (("html", "text/html"), ("pdf", "application/pdf")):
        if attach in (format_, "both"):
            content = report.render_bytes(scan, format_, practices=practices, past=past)
            yield deliver.Attachment(f"{name}-{scan.started:%Y-%m-%d}.{format_}", kind, content)


def failure_letter(site: str, run: int, why: str, partner: str, post: Post, when: datetime) -> Letter:
    """The mail to the partner about a site that could not be scanned; the customer hears nothing of it."""
    said, name = html_text(why, _WHY), html_text(site, _NAME)
    text = (
        f"The site {name} could not be scanned.\n\nWhy: {said}\n\n"
        "Nothing is known of it tonight, and the customer was not written to.\n"
    )
    body = "".join(f"<p>{escape(line)}</p>" for line in text.split("\n\n"))
    message = deliver.compose(
        sender=post.sender,
        sender_name=post.sender_name,
        recipient=partner,
        subject=f"Not scanned: {name}",
        text=text,
        html=_PAGE.format(body),
        when=when,
        about=f"failure {run} {site}",
        thread=f"failures of {site}",
        first=True,
    )
    return Letter(partner, message)
