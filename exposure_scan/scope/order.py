"""What a person asked for, before any name is resolved, and how it is read from the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from types import MappingProxyType
from typing import Literal, TypeAlias, TypedDict, TypeVar, Unpack

from exposure_scan.model import Authorization, DeviceClass, Presence, Problem, Site, Vantage
from exposure_scan.model.text import quoted
from exposure_scan.model.words import tellable

from .addresses import Network, literals, shown

Clock: TypeAlias = Callable[[], datetime]
_T = TypeVar("_T")

DEVICES: Mapping[str, DeviceClass] = MappingProxyType(
    {"server": DeviceClass.SERVER, "handset": DeviceClass.HANDSET, "px": DeviceClass.PX}
)
VOICEMAIL = ("smtp", "imap", "pop3")
PACKETS_PER_SECOND, BURST = 100.0, 20  # to one address, where the sites file sets nothing else
NOWHERE = "unnamed vantage"

_SERVICE = re.compile(r"(?:(tcp|udp)/)?([0-9]{1,5})(?:-([0-9]{1,5}))?")
_TURNED = re.compile(r"([0-9]{1,5})/(tcp|udp)")
_PAIR = re.compile(r"([a-z0-9]+)\s*=\s*([0-9]{1,5})")


ReportWhen: TypeAlias = Literal["every", "on-change", "weekly"]


@dataclass(frozen=True, slots=True)
class Order:
    """One site as ordered. Nothing in it was resolved, and nothing may be sent on its strength alone."""

    site: Site
    authorization: Authorization
    fence: tuple[Network, ...]  # every address must lie inside; empty is no fence
    partner: dict[str, str]
    internal: bool
    packets_per_second: float
    burst: int
    report_to: tuple[str, ...]
    report_when: ReportWhen
    schedule: str | None  # five cron fields
    vantage: Vantage


class Words(TypedDict, total=False):
    """What the command line may say of a site, as typed. A blank text is none."""

    device: str | None  # server, handset or px
    expect: str | None  # "udp/5060,tcp/443"
    voicemail_ports: str | None  # "smtp=2525,imap=1143"
    present: str | None  # who confirmed that the address is the live site
    internal: bool
    require_declarations: bool


def now() -> datetime:
    """The time of day, aware, UTC."""
    return datetime.now(UTC)


# --- words ---------------------------------------------------------------------------------------


def line(text: str) -> str:
    """A text for one line, without the spaces around it.

    Raises:
        ValueError: it is blank, or has characters that do not print.
    """
    words = text.strip()
    if not any(char.isalnum() for char in words):
        raise ValueError(f"a text with letters or digits is expected, not {quoted(text)}")
    if not words.isprintable():
        raise ValueError(f"one line without control characters is expected, not {quoted(text)}")
    return words


def moment(value: object, *, last: bool) -> datetime:
    """A date or a date and time (ISO 8601 text, too) as an aware moment; what names no zone is UTC.

    A date is its last microsecond if `last`, else its first.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str):
        word = value.strip()
        for read in (date.fromisoformat, datetime.fromisoformat):
            try:
                return moment(read(word), last=last)
            except ValueError:
                continue
    if isinstance(value, datetime):
        return tellable(value) if value.tzinfo is not None else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time.max if last else time.min, UTC)
    raise ValueError(f"a date or a date and time is expected, not {shown(value)}; write it as 2026-12-31")


def services(word: str) -> list[str]:
    """The keys of one entry of a list of ports: ``udp/5060``, ``25``, ``tcp/1000-1010``.

    Raises:
        ValueError: it is no such entry.
    """
    plain = word.strip().lower()
    turned = _TURNED.fullmatch(plain)
    if turned:
        raise ValueError(f"{quoted(word.strip())} is turned round; write {turned[2]}/{turned[1]}")
    match = _SERVICE.fullmatch(plain)
    if match is None:
        raise ValueError(f"{quoted(word.strip())} is no port; write udp/5060, tcp/25, 8080 or 1000-1010")
    first = int(match[2])
    last = int(match[3] or match[2])
    if not 1 <= first <= last <= 65535:
        raise ValueError(f"{quoted(word.strip())} is no port; ports go from 1 to 65535, ranges from low to high")
    return [f"{match[1] or 'tcp'}/{port}" for port in range(first, last + 1)]


def parse_services(text: str) -> tuple[str, ...]:
    """A list of ports as keys, each once, in order: ``tcp/25``. A bare number is TCP; ranges are written out.

    Raises:
        Problem: an entry is no port; one sentence for each.
    """
    keys, mistakes = _services(text)
    if mistakes:
        raise Problem(*(f"Ports: {mistake}." for mistake in mistakes))
    return keys


def _services(text: str) -> tuple[tuple[str, ...], list[str]]:
    keys: dict[str, None] = {}
    mistakes = []
    for word in text.split(","):
        try:
            keys.update(dict.fromkeys(services(word)))
        except ValueError as error:
            mistakes.append(str(error))
    return tuple(keys), mistakes


def _voicemail(text: str, before: Mapping[str, int]) -> tuple[dict[str, int], list[str]]:
    found: dict[str, int] = {}
    mistakes = []
    for word in text.split(","):
        match = _PAIR.fullmatch(word.strip().lower())
        if match is None or match[1] not in VOICEMAIL or not 1 <= int(match[2]) <= 65535:
            mistakes.append(
                f"{quoted(word.strip())} is no voicemail port; write smtp=2525, imap=1143 or pop3=1110, from 1 to 65535"
            )
        elif match[1] in found:
            mistakes.append(f"{match[1]} is named twice; give one port for it")
        else:
            found[match[1]] = int(match[2])
    found = {**before, **found}
    shared = sorted({port for port in found.values() if [*found.values()].count(port) > 1})
    mistakes += [f"two services cannot share the port {port}; give each its own" for port in shared]
    return found, mistakes


# --- orders --------------------------------------------------------------------------------------


def order_from_words(
    targets: Sequence[str],
    *,
    authorized_by: str | None,
    reference: str | None = None,
    until: str | None = None,
    name: str | None = None,
    clock: Clock = now,
    **words: Unpack[Words],
) -> Order:
    """The order that the command line gives, its texts as typed. A blank text is none.

    `until` is an ISO date, meaning the end of that day in UTC, or a date and time. Without a `name`
    the site is called after its first target.

    Raises:
        Problem: every mistake, one sentence each.
    """
    mistakes: list[str] = []
    internal = words.get("internal", False)
    if not targets:
        mistakes.append("No target: give at least one address, network or name.")
    found = literals(targets, (), internal=internal)[2]
    mistakes += [f"Target {place + 1}: {mistake}." for place, mistake in found]
    by = None
    if authorized_by is None or not authorized_by.strip():
        mistakes.append(
            "No authorization: nobody is named who consented to this scan; say who with --authorized-by, "
            "or scan a site of the sites file."
        )
    else:
        by = _try(mistakes, "--authorized-by", line, authorized_by)
    consent = Authorization(
        by=by or "",
        reference=_try(mistakes, "--reference", line, reference) if reference and reference.strip() else None,
        until=_try(mistakes, "--until", lambda text: moment(text, last=True), until)
        if until and until.strip()
        else None,
    )
    called = _try(mistakes, "Site", line, name) if name and name.strip() else None
    site = _refined(
        Site(name=called or (targets[0].strip() if targets else ""), targets=tuple(targets)),
        mistakes,
        words,
        clock,
    )
    if mistakes:
        raise Problem(*mistakes)
    return Order(
        site=site,
        authorization=consent,
        fence=(),
        partner={},
        internal=internal,
        packets_per_second=PACKETS_PER_SECOND,
        burst=BURST,
        report_to=(),
        report_when="on-change",
        schedule=None,
        vantage=Vantage(name=NOWHERE, outside=not internal),
    )


def with_words(
    order: Order,
    *,
    clock: Clock = now,
    **words: Unpack[Words],
) -> Order:
    """A site of the sites file, refined on the command line.

    `device`, `present` and the port of a voicemail service replace what the file says; `expect` adds to it.

    Raises:
        Problem: every mistake, one sentence each.
    """
    mistakes: list[str] = []
    site = _refined(
        order.site,
        mistakes,
        words,
        clock,
    )
    if mistakes:
        raise Problem(*mistakes)
    internal = words.get("internal", False)
    vantage = order.vantage.model_copy(update={"outside": False}) if internal else order.vantage
    return replace(order, site=site, internal=order.internal or internal, vantage=vantage)


def _refined(
    site: Site,
    mistakes: list[str],
    words: Words,
    clock: Clock,
) -> Site:
    changes: dict[str, object] = {}
    device, expect = words.get("device"), words.get("expect")
    voicemail_ports, present = words.get("voicemail_ports"), words.get("present")
    if device is not None and device.strip():
        changes["device"] = DEVICES.get(device.strip().lower())
        if changes["device"] is None:
            mistakes.append(f"--device: server, handset or px is expected, not {quoted(device)}.")
    if expect is not None and expect.strip():
        keys, wrong = _services(expect)
        mistakes += [f"--expect: {mistake}." for mistake in wrong]
        changes["expect"] = tuple(dict.fromkeys((*site.expect, *keys)))
    if voicemail_ports is not None and voicemail_ports.strip():
        ports, wrong = _voicemail(voicemail_ports, site.voicemail)
        mistakes += [f"--voicemail-ports: {mistake}." for mistake in wrong]
        changes["voicemail"] = ports
    if present is not None and present.strip():
        changes["present"] = Presence(by=_try(mistakes, "--present", line, present) or "", on=clock())
    if words.get("require_declarations"):
        changes["require_declarations"] = True
    return site.model_copy(update=changes)


def _try(mistakes: list[str], where: str, read: Callable[[str], _T], text: str) -> _T | None:
    try:
        return read(text)
    except ValueError as error:
        mistakes.append(f"{where}: {error}.")
        return None
