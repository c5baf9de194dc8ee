r"""The recipes beside the captures: one conversation each, as data, and what must come out of it.

A recipe is a TOML file. The bytes of an event stand in `text`, as `conversation.escape` writes them, and the line
breaks in it are layout: what was really a line break is written ``\r\n``. What TLS made of the words stands in
`base64`. `Recipe.rebuilt` makes the capture, always the same bytes.
"""

from __future__ import annotations

import re
import textwrap
import tomllib
from base64 import b64decode, b64encode
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import tomli_w
from pydantic import Field, field_validator

from exposure_scan.conversation import Caller, Event, Exchange, Observation, What, escape, replay, unescape
from exposure_scan.model import Echo, PortState, Question
from exposure_scan.model.words import Frozen
from exposure_scan.protocols import conversation
from exposure_scan.transport import HEADER, rebuild

HERE = Path(__file__).parent
CALLER = Caller("exposure-scan/0.1.0", "noc@partner.invalid")  # who asks in every recipe; synthetic
TOKEN = "00c0ffee00c0ffee"  # noqa: S105 - it makes our words unique, and in recipes always the same
_WIDTH = 118  # characters of text on one line
_PIECE = re.compile(r"(?:\\x[0-9a-f]{2}|\\.|[^\\])", re.DOTALL)


class Happening(Frozen):
    """An `Event`; its bytes are in `text` or in `base64`."""

    ms: float
    what: What
    detail: str = ""
    text: str = ""
    base64: str = ""

    @field_validator("text", "base64")
    @classmethod
    def _without_layout(cls, text: str) -> str:
        return text.replace("\n", "")

    @property
    def event(self) -> Event:
        """The event as conversations and captures know it."""
        data = b64decode(self.base64) if self.base64 else unescape(self.text)
        return Event(self.ms, self.what, data, self.detail)


class Asked(Frozen):
    """The question. `token` makes its unique words."""

    transport: Literal["tcp", "udp", "icmp"]
    port: int
    probe: str
    token: str


class Outcome(Frozen):
    """What the port, or ping, turned out to be, and what its conversation concluded. `tls` is the version."""

    state: str
    reason: str
    by: str | None = None
    tries: int
    rtt_ms: float | None = None
    service: str | None = None
    banner: str | None = None
    tls: str | None = None
    answered: bool
    valid: bool
    notes: tuple[str, ...] = ()
    said: dict[str, str] = Field(default_factory=dict)


class Recipe(Frozen):
    """One conversation: whose words they are, the question, what happened, and what was made of it."""

    origin: str
    breaks: str | None = None  # the rule that the peer breaks, with its source
    at: datetime
    question: Asked
    outcome: Outcome
    event: tuple[Happening, ...]
    enciphered: tuple[Happening, ...] = ()
    keys: tuple[str, ...] = ()  # of its TLS sessions, as an NSS key log has them

    @cached_property
    def events(self) -> list[Event]:
        """What happened, in order."""
        return [happening.event for happening in self.event]

    def replayed(self, events: list[Event] | None = None) -> Observation:
        """What the conversation makes of the recipe's events, or of these.

        Raises:
            ReplayError: it sends other words than the record shows.
        """
        asked = self.question
        talk = conversation(asked.probe, asked.token, CALLER)
        return replay(talk, self.events if events is None else events, datagrams=asked.transport != "tcp")

    def exchange(self) -> Exchange:
        """The recipe as `transport.converse` would have returned it."""
        asked, came = self.question, self.outcome
        state = Echo(came.state) if asked.transport == "icmp" else PortState(came.state)
        return Exchange(
            Question(asked.transport, asked.port, asked.probe),
            state,
            came.reason,
            came.by,
            came.tries,
            came.rtt_ms,
            self.replayed(),
            self.at,
            tuple(self.events),
            tuple(happening.event for happening in self.enciphered),
            self.keys,
        )

    def rebuilt(self) -> bytes:
        """The capture that belongs to the recipe: pcap, link type 101."""
        return HEADER + b"".join(rebuild([self.exchange()]))

    def to_toml(self) -> str:
        """The file's text."""
        head = self.model_dump(exclude_defaults=True, exclude={"event", "enciphered"})
        tables = [
            _table(name, happening)
            for name, happenings in (("event", self.event), ("enciphered", self.enciphered))
            for happening in happenings
        ]
        return "\n".join([tomli_w.dumps(head), *tables])


def outcome_of(seen: Observation) -> dict[str, object]:
    """The part of an `Outcome` that a conversation concludes."""
    return {
        "service": seen.service,
        "banner": seen.banner,
        "tls": seen.tls.version if seen.tls else None,
        "answered": seen.answered,
        "valid": seen.valid,
        "notes": seen.notes,
        "said": dict(seen.said),
    }


def recipe_of(exchange: Exchange, *, token: str, origin: str, breaks: str | None = None) -> Recipe:
    """The recipe of a conversation that was held, in the product's own words of `CALLER`."""
    question = exchange.question
    return Recipe(
        origin=origin,
        breaks=breaks,
        at=exchange.at,
        question=Asked(transport=question.transport, port=question.port, probe=question.probe, token=token),
        outcome=Outcome(
            state=exchange.state,
            reason=exchange.reason,
            by=exchange.by,
            tries=exchange.tries,
            rtt_ms=None if exchange.rtt_ms is None else round(exchange.rtt_ms, 3),
            **outcome_of(exchange.observation),
        ),
        event=tuple(
            Happening(ms=round(event.ms, 3), what=event.what, detail=event.detail, text=escape(event.data))
            for event in exchange.events
        ),
        enciphered=tuple(
            Happening(
                ms=round(event.ms, 3),
                what=event.what,
                detail=event.detail,
                base64=b64encode(event.data).decode("ascii"),
            )
            for event in exchange.enciphered
        ),
        keys=exchange.keys,
    )


def read(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        ValueError: it is none.
    """
    return Recipe.model_validate(tomllib.loads(path.read_text("utf-8")))


def paths() -> list[Path]:
    """Every recipe, in the order of folders and names."""
    return sorted(HERE.glob("*/*.toml"))


def _table(name: str, happening: Happening) -> str:
    assert happening.what in get_args(What)
    lines = [f"[[{name}]]", f"ms = {happening.ms}", f'what = "{happening.what}"']
    if happening.detail:
        lines.append(tomli_w.dumps({"detail": happening.detail}).rstrip("\n"))
    if happening.text:
        # Three quotes would end the string.
        lines += ["text = '''", *_laid_out(happening.text.replace("'''", r"\x27\x27\x27")), "'''"]
    if happening.base64:
        lines += ["base64 = '''", *textwrap.wrap(happening.base64, _WIDTH), "'''"]
    return "\n".join([*lines, ""])


def _laid_out(text: str) -> list[str]:
    """Escaped text in lines: broken behind each line break that it tells of, and where it grows too long."""
    lines = [""]
    for piece in _PIECE.findall(text):
        if lines[-1].endswith(r"\n") or len(lines[-1]) + len(piece) > _WIDTH:
            lines.append("")
        lines[-1] += piece
    return lines
