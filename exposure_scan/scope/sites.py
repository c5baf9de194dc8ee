"""The sites file: TOML in, orders out, every mistake told at once in a sentence with its key path.

The models below say what the file may hold and are private to this room; what leaves it is
`model.Site` and `order.Order`. List entries count from 1 in messages, as people count.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from exposure_scan.model import Authorization, Declaration, Presence, Problem, Site, Vantage, Waiver
from exposure_scan.model.text import file_name, quoted

from .addresses import Network, literals, read_network
from .document import Document, SiteTable, sentence
from .order import BURST, DEVICES, NOWHERE, PACKETS_PER_SECOND, Clock, Order, moment, now, services

_MOST_BYTES = 4 * 1024 * 1024  # a thousand sites need a tenth of it
_BARE = re.compile(r"[A-Za-z0-9_-]{1,60}")
_AT = re.compile(r"^(.*) \(at (?:line (\d+), column (\d+)|end of document)\)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class VantageNote:
    """A vantage as the file describes it, with what a check of that network found. Ports as ``tcp/25``."""

    name: str
    checked: date | None = None
    found: str | None = None  # a note in words, which proves nothing to a verdict
    blind: tuple[str, ...] = ()
    forged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SitesFile:
    """A sites file without a mistake."""

    path: Path
    orders: tuple[Order, ...]
    partner: dict[str, str]  # name, contact, phone, mail, accent; logo as a data: URI
    mail: dict[str, Any] = field(default_factory=dict)  # host, port, security, ...; empty without [mail]
    vantages: tuple[VantageNote, ...] = ()

    def order(self, name: str) -> Order:
        """The order of the site with this name.

        Raises:
            Problem: there is none; the close names are told.
        """
        for order in self.orders:
            if order.site.name == name:
                return order
        known = {order.site.name.casefold(): order.site.name for order in self.orders}
        close = difflib.get_close_matches(name.casefold(), known, n=3, cutoff=0.5)
        hint = " or ".join(quoted(known[match]) for match in close)
        some = ", ".join(quoted(name) for name in list(known.values())[:5])
        raise Problem(
            f"{self.path}: there is no site {quoted(name)}; "
            + (f"did you mean {hint}?" if hint else f"the file begins with {some}.")
        )


def read_sites_file(path: Path, *, practices: frozenset[str] | None = None, clock: Clock = now) -> SitesFile:
    """Read and judge a sites file (design, section 4). No packet is sent and no name looked up.

    `practices` are the known practice ids, None to leave ids unchecked. An expired authorization is
    no mistake here; `resolve` refuses it.

    Raises:
        Problem: every mistake, one sentence each.
    """
    data = _toml(path)
    context = {"practices": practices, "today": clock().astimezone(UTC).date(), "folder": path.parent}
    document, mistakes = None, []
    try:
        document = Document.model_validate(data, context=context)
    except ValidationError as error:
        mistakes = [(tuple(item["loc"]), sentence(item)) for item in error.errors(include_url=False)]
    mistakes += _across(data)
    if mistakes or document is None:
        raise Problem(*(_told(path, data, where, what) for where, what in mistakes))
    partner = cast("dict[str, str]", document.partner.model_dump(exclude_none=True))
    vantages = tuple(
        VantageNote(row.name, row.checked, row.found, _keys(row.blind), _keys(row.forged)) for row in document.vantage
    )
    orders = tuple(_order(site, partner, vantages) for site in document.site)
    mail = document.mail.model_dump(exclude_none=True) if document.mail else {}
    return SitesFile(path, orders, partner, mail, vantages)


def _toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise Problem(f"{path}: cannot be read ({error.strerror}); give the name of a sites file.") from None
    if len(raw) > _MOST_BYTES:
        raise Problem(f"{path}: is larger than 4 MiB; a sites file is a short text in TOML.")
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        before = error.object[: error.start].count(b"\n") + 1
        raise Problem(f"{path}: line {before}: is not UTF-8 text; save the file as UTF-8.") from None
    except RecursionError:
        raise Problem(f"{path}: is nested too deeply; a sites file is a short text in TOML.") from None
    except ValueError as error:  # TOMLDecodeError, and numbers of thousands of digits
        match = _AT.match(str(error))
        if match is None:
            raise Problem(f"{path}: holds a number of thousands of digits, which cannot be read.") from None
        last = raw.count(b"\n") + 1
        at = f"line {last}" if match[2] is None else f"line {match[2]}, column {match[3]}"
        raise Problem(f"{path}: {at}: is not TOML: {_lower(match[1])}; correct this line.") from None


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


# --- mistakes ------------------------------------------------------------------------------------

_Where = tuple[int | str, ...]


def _told(path: Path, data: Mapping[str, Any], where: _Where, what: str) -> str:
    """``sites.toml: site[2].authorization.until: ... (site "Acme Dental").``."""
    keys = _key_path(where)
    name = _site_name(data, where)
    ending = "" if name is None else f" (site {quoted(name)})"
    stop = "" if what.endswith("?") and not ending else "."
    return f"{path}: {keys + ': ' if keys else ''}{what}{ending}{stop}"


def _key_path(where: _Where) -> str:
    text = ""
    for key in where:
        if key == "[key]":
            continue
        if isinstance(key, int):
            text += f"[{key + 1}]"
        else:
            text += ("." if text else "") + (key if _BARE.fullmatch(key) else quoted(key))
    return text


def _site_name(data: Mapping[str, Any], where: _Where) -> str | None:
    if len(where) < 2 or where[0] != "site" or not isinstance(where[1], int):
        return None
    row = data["site"][where[1]]
    name = row.get("name") if isinstance(row, dict) else None
    return name if isinstance(name, str) else None


def _across(data: Mapping[str, Any]) -> list[tuple[_Where, str]]:
    """Mistakes between keys. The data is not validated, so that these are told together with the others."""
    rows = data.get("site")
    if not isinstance(rows, list):
        return []
    mistakes: list[tuple[_Where, str]] = []
    folders: dict[str, int] = {}
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            continue
        name = row.get("name")
        if isinstance(name, str) and any(map(str.isalnum, name)):
            folder = file_name(name)
            first = folders.setdefault(folder, place)
            if first != place:
                mistakes.append(
                    (
                        ("site", place, "name"),
                        f"site[{first + 1}] has this name or one with the same folder ({folder}); choose another",
                    )
                )
        mistakes += [(("site", place, *where), what) for where, what in _targets(row)]
        mistakes += [(("site", place, *where), what) for where, what in _recipients(row, data.get("mail"))]
    if isinstance(mail := data.get("mail"), dict):
        secrets = [key for key in ("password_env", "password_file", "password_command") if key in mail]
        if len(secrets) > 1:
            mistakes.append((("mail", secrets[1]), f"the password is already in {secrets[0]}; keep one of them"))
        if secrets and "username" not in mail:
            mistakes.append((("mail", "username"), "is missing, and a password alone is no login; name the user"))
    return mistakes


def _recipients(row: Mapping[str, Any], mail: object) -> Iterator[tuple[_Where, str]]:
    """Recipients outside the domains that the partner allows."""
    allowed = [
        text.strip().casefold().removeprefix("@").rstrip(".")
        for _, text in _texts(mail.get("allowed_domains") if isinstance(mail, dict) else None)
    ]
    for place, address in _texts(row.get("report_to")) if allowed else []:
        domain = address.rpartition("@")[2].casefold().rstrip(".")
        if domain and domain not in allowed:
            yield (
                ("report_to", place),
                f"{quoted(domain)} is not among mail.allowed_domains; add it there or mend it",
            )


def _targets(row: Mapping[str, Any]) -> Iterator[tuple[_Where, str]]:
    """What is wrong with a site's targets and fence, taken together and one by one."""
    fence: list[Network] = []
    listed = row.get("fence")
    for place, text in _texts(listed):
        try:
            fence.append(read_network(text))
        except ValueError as error:
            yield ("fence", place), str(error)
    if isinstance(listed, list) and len(fence) < len(listed):
        fence = []  # a target inside the network that was misspelt is no second mistake
    targets = _texts(row.get("targets"))
    _, names, mistakes = literals([text for _, text in targets], fence, internal=row.get("internal") is True)
    for place, what in mistakes:
        yield ("targets", targets[place][0]), what
    if names and "fence" not in row:
        what = (
            f"is missing, and {quoted(names[0])} could lead to somebody else's address one day; name the networks "
            'that names must stay in, as fence = ["198.51.100.0/28"]'
        )
        yield ("fence",), what


def _texts(value: object) -> list[tuple[int, str]]:
    if not isinstance(value, list):
        return []
    return [(place, text) for place, text in enumerate(value) if isinstance(text, str)]


# --- orders --------------------------------------------------------------------------------------


def _order(row: SiteTable, partner: Mapping[str, str], vantages: Sequence[VantageNote]) -> Order:
    consent, present = row.authorization, row.present
    return Order(
        site=Site(
            name=row.name,
            targets=tuple(row.targets),
            device=DEVICES[row.device] if row.device else None,
            model=row.model,
            software=row.software,
            expect=_keys(row.expect),
            voicemail=row.voicemail.model_dump(exclude_none=True) if row.voicemail else {},
            present=Presence(**present.model_dump()) if present else None,
            declares={key: Declaration(by=word.by, on=word.on, until=word.until) for key, word in row.declares.items()},
            waivers=tuple(Waiver(**waiver.model_dump()) for waiver in row.waiver),
        ),
        authorization=Authorization(**consent.model_dump()),
        fence=tuple(read_network(text) for text in row.fence or ()),
        partner=dict(partner),
        internal=row.internal,
        packets_per_second=row.packets_per_second or PACKETS_PER_SECOND,
        burst=row.burst or BURST,
        report_to=tuple(row.report_to),
        report_when=row.report_when or "on-change",
        schedule=row.schedule,
        vantage=_vantage(vantages, outside=not row.internal),
    )


def _vantage(vantages: Sequence[VantageNote], *, outside: bool) -> Vantage:
    """Where the scan looks from, as far as the file says.

    Of several nobody knows which one it is: then what is blind in one is blind, and it is checked only
    if all are, as long ago as the oldest.
    """
    if not vantages:
        return Vantage(name=NOWHERE, outside=outside)
    names = [vantage.name for vantage in vantages]
    days = [vantage.checked for vantage in vantages if vantage.checked is not None]
    return Vantage(
        name=names[0] if len(names) == 1 else f"one of {', '.join(names)}",
        checked=len(days) == len(names),
        outside=outside,
        on=moment(min(days), last=False) if days else None,
        blind=tuple(dict.fromkeys(key for vantage in vantages for key in vantage.blind)),
        forged=tuple(dict.fromkeys(key for vantage in vantages for key in vantage.forged)),
    )


def _keys(words: Sequence[str]) -> tuple[str, ...]:
    """The ports of a list, each once: ``tcp/25``."""
    return tuple(dict.fromkeys(key for word in words for key in services(word)))
