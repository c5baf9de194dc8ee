"""What may stand in a sites file, as pydantic models, and pydantic's errors in our own words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from exposure_scan.model.text import quoted

from . import brand
from .addresses import shown
from .order import line, moment, services

# --- words ---------------------------------------------------------------------------------------

_MAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_CRON: tuple[tuple[str, int, int, str], ...] = (
    ("minute", 0, 59, ""),
    ("hour", 0, 23, ""),
    ("day of the month", 1, 31, ""),
    ("month", 1, 12, "jan feb mar apr may jun jul aug sep oct nov dec"),
    ("day of the week", 0, 7, "sun mon tue wed thu fri sat"),
)


def _mail(text: str) -> str:
    if len(text) > 254 or len(text.rpartition("@")[0]) > 64:  # RFC 5321, section 4.5.3.1
        raise ValueError(f"a mail address is expected, and this is longer than one may be: {quoted(text)}")
    if not _MAIL.fullmatch(text):
        raise ValueError(f"a mail address is expected, not {quoted(text)}")
    return text


def _service(text: str) -> str:
    services(text)
    return text


def _cron(text: str) -> str:
    fields = text.lower().split()
    if len(fields) != len(_CRON):
        raise ValueError(
            f'five fields are expected (minute, hour, day, month, day of the week), as "0 3 * * *", not {quoted(text)}'
        )
    for word, (what, low, high, names) in zip(fields, _CRON, strict=True):
        if not all(_cron_part(part, low, high, names.split()) for part in word.split(",")):
            raise ValueError(f'{quoted(word)} is no {what}; from {low} to {high} is expected, or *, as in "0 3 * * *"')
    return " ".join(fields)


def _cron_part(part: str, low: int, high: int, names: list[str]) -> bool:
    span, slash, step = part.partition("/")
    if slash and not (re.fullmatch(r"[0-9]{1,2}", step) and int(step)):
        return False
    if span == "*":
        return True
    ends = [
        names.index(word) + low if word in names else int(word) if re.fullmatch(r"[0-9]{1,2}", word) else -1
        for word in span.split("-")
    ]
    return len(ends) <= 2 and all(low <= end <= high for end in ends) and ends == sorted(ends)


_LONG_AGO = 1970


def _not_ahead(day: date, info: ValidationInfo) -> None:
    if day.year < _LONG_AGO:
        raise ValueError(f"{day} is long ago; write the day on which it happened")
    today: date | None = (info.context or {}).get("today")
    if today is not None and day > today + timedelta(days=1):  # the sun may have risen there already
        raise ValueError(f"{day} is in the future; write the day on which it happened")


def _day(value: object) -> date:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    if isinstance(value, str):
        try:
            return date.fromisoformat(value.strip())
        except ValueError:
            pass
    raise ValueError(f"a date is expected, not {shown(value)}; write it as 2026-12-31")


def _past_day(value: object, info: ValidationInfo) -> date:
    day = _day(value)
    _not_ahead(day, info)
    return day


def _past_moment(value: object, info: ValidationInfo) -> datetime:
    at = moment(value, last=False)
    _not_ahead(at.date(), info)
    return at


def _practice(text: str, info: ValidationInfo) -> str:
    known: frozenset[str] | None = (info.context or {}).get("practices")
    if known is not None and text not in known:
        close = difflib.get_close_matches(text, sorted(known), n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "see `exposure-scan practices` for the ids"
        raise ValueError(f"there is no practice {quoted(text)}; {hint}")
    return text


def _whole_ids(value: object) -> object:
    """A practice id holds a dot, and TOML reads a bare dot as a table in a table."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, dict) and inner and all(isinstance(deeper, dict) for deeper in inner.values()):
                name = f"{key}.{next(iter(inner))}"
                raise ValueError(f'write the practice in quotation marks, as "{name}" = {{ by = ..., on = ... }}')
    return value


def _logo(name: str, info: ValidationInfo) -> str:
    folder: Path = (info.context or {}).get("folder") or Path()
    return brand.logo(line(name), folder)


def _domain(text: str) -> str:
    name = line(text).casefold().removeprefix("@").rstrip(".")
    if not re.fullmatch(r"([a-z0-9-]+\.)+[a-z0-9-]+", name):
        raise ValueError(f"a domain such as acme.example is expected, not {quoted(text)}")
    return name


Line = Annotated[str, AfterValidator(line)]
Domain = Annotated[str, AfterValidator(_domain)]
MailAddress = Annotated[str, AfterValidator(_mail)]
Service = Annotated[str, AfterValidator(_service)]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
Practice = Annotated[str, AfterValidator(_practice)]
Day = Annotated[date, BeforeValidator(_day)]
PastDay = Annotated[date, BeforeValidator(_past_day)]
PastMoment = Annotated[datetime, BeforeValidator(_past_moment)]
LastMoment = Annotated[datetime, BeforeValidator(lambda value: moment(value, last=True))]


# --- tables --------------------------------------------------------------------------------------


class Table(BaseModel):
    """A table of the file: unknown keys are a mistake, and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PartnerTable(Table):
    """Who scans: the reseller."""

    name: Line | None = None
    contact: Line | None = None
    phone: Line | None = None
    mail: MailAddress | None = None
    accent: Annotated[str, AfterValidator(brand.accent)] | None = None
    logo: Annotated[str, AfterValidator(_logo)] | None = None  # a file's name in, a data: URI out


class MailTable(Table):
    """How mail leaves. The password stands in the environment, a file or a password keeper, never here."""

    host: Line
    port: PortNumber | None = None
    security: Literal["starttls", "tls", "none"] | None = None
    username: Line | None = None
    password_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    password_file: Line | None = None
    password_command: Annotated[list[Line], Field(min_length=1)] | None = None  # a program and its arguments
    sender: MailAddress | None = None
    allowed_domains: list[Domain] = []  # of recipients; empty allows all


class VantageTable(Table):
    """From where scans look, and what a check of that network found."""

    name: Line
    checked: PastDay | None = None
    blind: list[Service] = []  # what cannot leave that network
    forged: list[Service] = []  # what somebody else answers there
    found: Line | None = None  # a note in words


class AuthorizationTable(Table):
    """Who consented."""

    by: Line
    role: Line | None = None
    on: PastDay | None = None
    until: LastMoment | None = None
    reference: Line | None = None


class PresentTable(Table):
    """Who confirmed that the live site is at this address."""

    by: Line
    on: PastMoment
    how: Line | None = None
    until: LastMoment | None = None

    @field_validator("until")
    @classmethod
    def _later(cls, until: datetime | None, info: ValidationInfo) -> datetime | None:
        on: datetime | None = info.data.get("on")  # missing where it is a mistake itself
        if until is not None and on is not None and until <= on:
            raise ValueError("is not after `on`; write when the word is too old to count, or leave it out for 24 hours")
        return until


class DeclarationTable(Table):
    """Who vouches for a practice, and how long the word counts."""

    by: Line
    on: PastDay
    until: Day | None = None


class WaiverTable(Table):
    """Which finding is accepted, until when, why and by whom."""

    practice: Practice
    until: Day
    because: Line
    by: Line


class VoicemailTable(Table):
    """Where voicemail was moved."""

    smtp: PortNumber | None = None
    imap: PortNumber | None = None
    pop3: PortNumber | None = None

    @model_validator(mode="after")
    def _apart(self) -> VoicemailTable:
        ports = [port for port in (self.smtp, self.imap, self.pop3) if port is not None]
        if len(set(ports)) < len(ports):
            raise ValueError("two services cannot share a port; give each its own")
        return self


class SiteTable(Table):
    """One customer."""

    name: Line
    targets: Annotated[list[str], Field(min_length=1)]  # judged together with the fence, in `sites`
    fence: Annotated[list[str], Field(min_length=1)] | None = None
    device: Literal["server", "handset", "px"] | None = None
    model: Line | None = None
    software: Line | None = None
    expect: list[Service] = []
    voicemail: VoicemailTable | None = None
    report_to: list[MailAddress] = []
    report_when: Literal["every", "on-change", "weekly"] | None = None
    schedule: Annotated[str, AfterValidator(_cron)] | None = None
    internal: bool = False
    packets_per_second: Annotated[float, Field(ge=1, le=1000, allow_inf_nan=False)] | None = None
    burst: Annotated[int, Field(ge=1, le=1000)] | None = None
    authorization: AuthorizationTable
    present: PresentTable | None = None
    declares: Annotated[dict[Practice, DeclarationTable], BeforeValidator(_whole_ids)] = {}
    waiver: list[WaiverTable] = []


class Document(Table):
    """The whole file."""

    partner: PartnerTable = PartnerTable()
    mail: MailTable | None = None
    vantage: list[VantageTable] = []
    site: Annotated[list[SiteTable], Field(min_length=1)]


_TABLES: Mapping[tuple[str, ...], type[Table]] = MappingProxyType(
    {
        (): Document,
        ("partner",): PartnerTable,
        ("mail",): MailTable,
        ("vantage",): VantageTable,
        ("site",): SiteTable,
        ("site", "authorization"): AuthorizationTable,
        ("site", "present"): PresentTable,
        ("site", "voicemail"): VoicemailTable,
        ("site", "waiver"): WaiverTable,
    }
)


# --- pydantic's errors in our words --------------------------------------------------------------

_NO_SITE = "no site; add a [[site]] table with name, targets and [site.authorization]"
_MISSING: Mapping[str, str] = MappingProxyType(
    {
        "site": _NO_SITE,
        "authorization": "no authorization: nobody is named who consented; add [site.authorization]",
        "name": "is missing; give it a name",
        "targets": 'is missing; name what may be scanned, as targets = ["198.51.100.12"]',
        "by": "is missing; name the person",
        "on": "is missing; write the day, as 2026-12-31",
        "until": "is missing; write the last day, as 2026-12-31",
        "because": "is missing; say why",
        "practice": "is missing; name the practice",
        "host": "is missing; name the mail server",
    }
)
_EMPTY: Mapping[str, str] = MappingProxyType(
    {"site": _NO_SITE, "targets": 'is empty; name what may be scanned, as targets = ["198.51.100.12"]'}
)
_EXPECTED: Mapping[str, str] = MappingProxyType(
    {
        "string_type": "a text in quotation marks",
        "int_type": "a whole number",
        "float_type": "a number",
        "finite_number": "a number",
        "bool_type": "true or false",
        "list_type": "a list in square brackets",
        "dict_type": "a table",
        "model_type": "a table",
        "model_attributes_type": "a table",
    }
)


def sentence(error: ErrorDetails) -> str:
    """What is wrong and what to do, without the place before it and the full stop behind it."""
    kind, where, context = error["type"], error["loc"], error.get("ctx", {})
    last = str(where[-1]) if where else ""
    if kind == "missing":
        return _MISSING.get(last, "is missing")
    if kind == "extra_forbidden":
        return _unknown(where)
    if kind == "value_error":
        return str(context["error"])
    if kind == "too_short":
        return _EMPTY.get(last, "is empty; give at least one entry, or leave the key out")
    if kind in ("greater_than_equal", "less_than_equal"):
        high = 65535 if "voicemail" in where or last == "port" else 1000
        return f"a number from 1 to {high} is expected, not {shown(error['input'])}"
    if kind == "string_pattern_mismatch":
        # What stands there may be a password: it is not shown.
        return "the name of an environment variable is expected, as MAIL_PASSWORD"
    if kind == "literal_error":
        return f"{context['expected']} is expected, not {shown(error['input'])}"
    if where == ("site",) and kind == "list_type":
        return "a list of tables is expected; write [[site]] with two brackets"
    expected = _EXPECTED.get(kind)
    if expected is None:
        return f"is not understood ({error['msg']})"
    return f"{expected} is expected, not {shown(error['input'])}"


def _unknown(where: tuple[int | str, ...]) -> str:
    """An unknown key, with the known one that it is close to."""
    parents = tuple(str(key) for key in where[:-1] if not isinstance(key, int))
    table = DeclarationTable if parents[:2] == ("site", "declares") else _TABLES.get(parents)
    known = list(table.model_fields) if table else []
    close = difflib.get_close_matches(str(where[-1]), known, n=1, cutoff=0.6)
    return f"unknown key; did you mean {close[0]}?" if close else f"unknown key; known here: {', '.join(known)}"
