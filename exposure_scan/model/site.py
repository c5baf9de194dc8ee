"""What the operator says: who consented, what the site is, what is declared; and the one address to ask."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import date, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, TypeAlias

from pydantic import Field

from .words import DeviceClass, Frozen, Moment, Seen

Address: TypeAlias = IPv4Address | IPv6Address


class Authorization(Frozen):
    """Who consented to the scan. Without a live one no packet leaves."""

    by: str
    until: Moment | None = None  # aware; None means until further notice
    reference: str | None = None
    role: str | None = None
    on: date | None = None


class Presence(Frozen):
    """A person's word that the live site really is at this address (silence cannot say so)."""

    by: str
    on: Seen  # aware
    how: str | None = None
    until: Moment | None = None  # aware; None means 24 hours from `on`

    @property
    def ends(self) -> datetime:
        """When the word is too old to count."""
        return self.until or self.on + timedelta(hours=24)


class Declaration(Frozen):
    """The operator's word for a practice that nobody can see from outside."""

    by: str
    on: date
    until: date | None = None  # the last day on which it counts; None means until further notice


class Waiver(Frozen):
    """A finding that somebody accepted, until a day."""

    practice: str
    until: date
    because: str
    by: str


class Vantage(Frozen):
    """From where the scan looked, and what the check of that network found (`vantage check`).

    A port in `blind` cannot be reached from there at all, one in `forged` is answered there by
    somebody else than the host that was asked; both as ``tcp/25``.
    """

    name: str
    checked: bool = False
    outside: bool = True  # False for --internal scans: no outside view
    on: Seen | None = None  # when it was checked; aware
    blind: tuple[str, ...] = ()
    forged: tuple[str, ...] = ()


class Site(Frozen):
    """What the operator says about a site; the part of the sites file that scan and report need."""

    name: str
    targets: tuple[str, ...]
    device: DeviceClass | None = None
    model: str | None = None
    software: str | None = None
    expect: tuple[str, ...] = ()  # services meant to be open: "udp/5060"
    voicemail: dict[str, int] = Field(default_factory=dict)  # moved voicemail: {"smtp": 2525, "imap": 1143}
    present: Presence | None = None
    declares: dict[str, Declaration] = Field(default_factory=dict)  # practice id -> who and when
    waivers: tuple[Waiver, ...] = ()
    require_declarations: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """One address that may be asked. Only `scope` makes one, and only after every check passed."""

    address: Address
    names: tuple[str, ...]  # the names that led here, if any
    authorization: Authorization
    packets_per_second: float = 100.0
    burst: int = 20
    _text: str = dataclass_field(init=False, repr=False, compare=False, default="")  # asked for with every packet

    def __post_init__(self) -> None:
        object.__setattr__(self, "_text", str(self.address))

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to ask a target: which port, in which protocol's words."""

    transport: Literal["tcp", "udp", "icmp"]
    port: int  # 0 for icmp
    probe: str  # name of a conversation in `protocols`
    why: str = ""
    ttl: int | None = None  # hops that its packets live for; None is the system's default

    def __str__(self) -> str:
        return f"{self.transport}/{self.port}" if self.port else self.transport
