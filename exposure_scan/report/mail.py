"""The scan as a mail to the customer: an HTML part, a text part that says the same, and the subject.

The mail is the report's short form. It has no script, no picture and nothing from elsewhere, and it is small
enough to be shown whole: what does not fit is told more briefly, never left out without a word.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from exposure_scan.model import Past, Scan, Status, Turn
from exposure_scan.model.text import header_text, html_text, within

from . import words
from .host import HostView, PracticeRow
from .material import Material
from .templates import render_template
from .view import Count, Page, page
from .words import Mark

_MOST_BYTES = 95_000  # of the HTML part: Gmail hides what lies behind 102 KB
_WIDTH = 78  # characters of a line of text (RFC 5322, section 2.1.1)
_HANG = 4  # how much deeper a line goes on, so that no text from outside begins where a label of ours does
# Characters; with the verdict they stay under 120.
_LONGEST_NAME = 45
_LONGEST_CHANGE = 56
_LONGEST_FIX = 240
_MOST_DECLARED = 40
_MOST_WAIVERS = 20
_MOST_LINES = 300  # of addresses; a site has at most 256
_PLAIN_ADDRESS = re.compile(r"[A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+)*@([A-Za-z0-9-]+\.)+[A-Za-z0-9-]+")

_ASKS = tuple(words.STATUSES[status] for status in (Status.NOT_MET, Status.CANNOT_TELL, Status.UNDECLARED))
_SEEN = tuple(words.STATUSES[status] for status in (Status.NOT_MET, Status.CANNOT_TELL))
_ALL = tuple(words.STATUSES.values())


@dataclass(frozen=True, slots=True)
class _Detail:
    """How much is told: at the worst `hosts`, practices of `whole` in full, of `named` by title, others by number.

    Of further addresses the numbers alone are told, in a line each.
    """

    whole: tuple[Mark, ...]
    named: tuple[Mark, ...] = _ALL
    hosts: int = 1_000


# From all to little; the first that fits is taken.
_DETAILS = (
    _Detail(_ALL),
    _Detail(_ASKS),
    _Detail(_SEEN),
    _Detail(_ASKS[:1]),
    _Detail(()),
    _Detail((), _SEEN),
    _Detail((), _ALL, 20),
    _Detail((), _SEEN, 20),
    _Detail((), _SEEN, 3),
    _Detail((), _SEEN, 0),
)
# The least bytes that a host, a practice in full and a title take, for not to make what can not fit.
_HOST_BYTES, _ROW_BYTES, _TITLE_BYTES = 400, 300, 13


@dataclass(frozen=True, slots=True)
class MailRow:
    """A practice told in full. `fix` is empty where nothing is to be done."""

    mark: Mark
    title: str
    severity: str
    seen: str
    fix: str
    menu_path: str
    sure: str
    waived: str


@dataclass(frozen=True, slots=True)
class MailList:
    """Practices of one status, told by title; by their number alone where `titles` is empty."""

    mark: Mark
    number: int
    titles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MailHost:
    """One address."""

    address: str
    names: str
    device: str
    doubt: str
    tally: str
    echo: str
    unmeasured: str
    rows: tuple[MailRow, ...]
    lists: tuple[MailList, ...]


@dataclass(frozen=True, slots=True)
class MailLine:
    """One address of many, told by its numbers."""

    address: str
    counts: tuple[Count, ...]


@dataclass(frozen=True, slots=True)
class Mail:
    """What the mail shows beside the page's own. `mailto` is empty where the partner's mail is no plain address."""

    page: Page
    subject: str
    preheader: str
    hosts: tuple[MailHost, ...]
    lines: tuple[MailLine, ...]
    more_hosts: int
    declared: tuple[tuple[str, str, str], ...]  # title, by, on
    more_declared: int
    more_waivers: int
    most_waivers: int
    contact: tuple[str, ...]
    mail: str
    mailto: str


# --- the parts -----------------------------------------------------------------------------------


def render_mail_html(material: Material) -> str:
    """The HTML part, its style inlined; under 100 KB."""
    return _fitting(material)[1]


def render_mail_text(material: Material) -> str:
    """The text part: the same words as the HTML part, in lines of at most 78 characters."""
    mail, _ = _fitting(material)
    return _wrapped(render_template("mail.txt.j2", material.templates, mail=mail, page=mail.page))


def mail_subject(material: Material) -> str:
    """The subject: the verdict, the site, and what changed; one clean line of fewer than 120 characters."""
    scan = material.scan
    verdict, changed = words.VERDICTS[scan.verdict].word, _changed(scan, material.past)
    site = header_text(scan.site.name, _LONGEST_NAME)
    return f"{verdict}: {site or 'a site without a name'} ({changed})"


def _fitting(material: Material) -> tuple[Mail, str]:
    """The fullest mail that a mail client shows whole, and its HTML part."""
    view, subject = page(material), mail_subject(material)
    mail, html = None, ""
    for detail in _DETAILS:
        if _least(view, detail) > _MOST_BYTES and detail is not _DETAILS[-1]:
            continue
        mail = _mail(view, subject, material, detail)
        html = _inlined(render_template("mail.html.j2", material.templates, mail=mail, page=view))
        if len(html.encode()) < _MOST_BYTES:
            break
    assert mail is not None
    return mail, html


def _least(view: Page, detail: _Detail) -> int:
    """Bytes that the HTML part takes at least."""
    marks = [row.mark for host in _worst_first(view, detail)[: detail.hosts] for row in host.practices]
    whole = sum(mark in detail.whole for mark in marks)
    named = sum(mark in detail.named and mark not in detail.whole for mark in marks)
    return min(len(view.hosts), detail.hosts) * _HOST_BYTES + whole * _ROW_BYTES + named * _TITLE_BYTES


def _inlined(html: str) -> str:
    """The page with its style in the elements; only what cannot stand there, as dark mode, stays in the head."""
    from css_inline import CSSInliner

    return CSSInliner(load_remote_stylesheets=False, minify_css=True).inline(html)


def _wrapped(text: str) -> str:
    lines: list[str] = []
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip(" "))
        hang = " " * (indent + _HANG)
        lines += textwrap.wrap(
            line.strip(), _WIDTH, initial_indent=" " * indent, subsequent_indent=hang, break_on_hyphens=False
        ) or [""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n") + "\n"


# --- what they say -------------------------------------------------------------------------------


def _mail(view: Page, subject: str, material: Material, detail: _Detail) -> Mail:
    scan = view.scan
    order = _worst_first(view, detail)
    lines = order[detail.hosts :]
    address = scan.partner.get("mail", "")
    return Mail(
        page=view,
        subject=subject,
        preheader=_preheader(view, material.past),
        hosts=tuple(_host(host, detail) for host in order[: detail.hosts]),
        lines=tuple(_line(host) for host in lines[:_MOST_LINES]),
        more_hosts=max(len(lines) - _MOST_LINES, 0),
        declared=view.declared[:_MOST_DECLARED],
        more_declared=max(len(view.declared) - _MOST_DECLARED, 0),
        more_waivers=max(len(view.waivers) - _MOST_WAIVERS, 0),
        most_waivers=_MOST_WAIVERS,
        contact=tuple(scan.partner[key] for key in ("name", "contact", "phone") if scan.partner.get(key)),
        mail=address,
        mailto=address if len(address) < 255 and _PLAIN_ADDRESS.fullmatch(address) else "",
    )


def _preheader(view: Page, past: Past) -> str:
    """What an inbox shows beside the subject."""
    since = f" Against the last scan: {_changed(view.scan, past)}." if past.last else ""
    return f"{view.box.why}{since} {view.box.do}"


def _worst_first(view: Page, detail: _Detail) -> tuple[HostView, ...]:
    """The addresses, those with most to mend first where they are not told alike."""

    def broken(host: HostView) -> int:
        return -sum(row.mark is _ASKS[0] for row in host.practices)

    return tuple(sorted(view.hosts, key=broken)) if detail.hosts < len(view.hosts) else view.hosts


def _line(host: HostView) -> MailLine:
    numbers = Counter(row.mark.word for row in host.practices)
    return MailLine(host.address, tuple(Count(mark, numbers[mark.word]) for mark in _ALL if numbers[mark.word]))


def _host(host: HostView, detail: _Detail) -> MailHost:
    devices = [
        f"{device.name}{f' ({within(device.detail)})' if device.detail else ''}: {device.how}"
        for device in host.devices
    ]
    rest: dict[str, list[PracticeRow]] = {}
    for row in host.practices:
        if row.mark not in detail.whole:
            rest.setdefault(row.mark.word, []).append(row)
    return MailHost(
        address=host.address,
        names=", ".join(within(name, 60) for name in host.names[:4]),
        device=f"{'; '.join(devices)}.",
        doubt=f"{host.doubt[:1].upper()}{host.doubt[1:]}." if host.doubt else "",
        tally=host.tally,
        echo=host.echo,
        unmeasured=host.unmeasured,
        rows=tuple(_row(row) for row in host.practices if row.mark in detail.whole),
        lists=tuple(_list(rows, detail) for rows in rest.values()),
    )


def _row(row: PracticeRow) -> MailRow:
    asks = row.mark in _ASKS
    return MailRow(
        mark=row.mark,
        title=row.title,
        severity=row.severity,
        seen=row.because,
        fix=_short(row.remedy) if asks else "",
        menu_path=row.menu_path if asks and row.menu_path not in row.remedy else "",
        sure=row.sure if row.unsure else "",
        waived=row.waived,
    )


def _list(rows: Sequence[PracticeRow], detail: _Detail) -> MailList:
    mark = rows[0].mark
    return MailList(mark, len(rows), tuple(_listed(row) for row in rows) if mark in detail.named else ())


def _listed(row: PracticeRow) -> str:
    marks = [word for word, holds in (("waived", row.waived), ("not beyond doubt", row.unsure)) if holds]
    return within(row.title, 120) + (f" ({', '.join(marks)})" if marks else "")


def _short(text: str) -> str:
    """The first sentences, as many as fit."""
    told = ""
    for sentence in re.split(r"(?<=[.!?]) (?=[A-Z])", html_text(text)):
        if told and len(told) + 1 + len(sentence) > _LONGEST_FIX:
            break
        told = f"{told} {sentence}".lstrip()
    return html_text(told, _LONGEST_FIX)


def _changed(scan: Scan, past: Past) -> str:
    """What changed since the last scan, the weightiest first, in at most `_LONGEST_CHANGE` characters."""
    if past.last is None or past.was is None:
        return "first scan"
    was = words.VERDICTS[past.was].word
    parts = [f"was {was}"] if past.was is not scan.verdict else []
    # as the report counts them: what came to the same at several addresses is one change
    alike = {(one.turn, one.practice, one.was, one.now, one.since) for one in past.changes}
    turns = Counter(turn for turn, *_ in alike)
    told = [turn for turn in words.TURNS if turns[turn] and turn not in (Turn.STILL, Turn.OTHER)]
    parts += [f"{turns[turn]} {words.TURNS[turn].word.lower()}" for turn in told]
    parts += _moved(
        (sum(len(doors.opened) for doors in past.doors), "port opened", "ports opened"),
        (sum(len(doors.shut) for doors in past.doors), "port shut", "ports shut"),
        (len(past.came), "address came", "addresses came"),
        (len(past.went), "address went", "addresses went"),
        (turns[Turn.OTHER], "other change", "other changes"),
    )
    if not parts:
        parts = ["no change"]
    if turns[Turn.STILL]:
        parts.append(f"{turns[Turn.STILL]} {words.TURNS[Turn.STILL].word.lower()}")
    while len(", ".join(parts)) > _LONGEST_CHANGE:
        parts.pop()
    return ", ".join(parts)


def _moved(*counts: tuple[int, str, str]) -> Iterable[str]:
    return (words.count(number, one, many) for number, one, many in counts if number)


__all__: Sequence[str] = ("mail_subject", "render_mail_html", "render_mail_text")
