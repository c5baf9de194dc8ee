"""SIP messages as they come off the wire: read leniently, bounded, and never with an exception."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .words import text

_MOST_MESSAGES = 50  # of one answer on a stream
_MOST_VIAS = 10
_MOST_BODY = 4000  # bytes of a body that are looked at

_STATUS_LINE = re.compile(rb"SIP/2\.0 ([1-6][0-9]{2})(?: [^\r\n]*)?$")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_COMPACT = {
    "v": "via", "i": "call-id", "f": "from", "t": "to", "l": "content-length", "m": "contact", "c": "content-type",
}  # fmt: skip
_VIA = re.compile(r"SIP */ *2\.0 */ *\w+ +(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?: *: *([0-9]{1,5}))? *(?:;(.*))?$", re.ASCII)


@dataclass(frozen=True, slots=True)
class Via:
    """One hop of the way that a request took (RFC 3261, section 20.42)."""

    host: str  # sent-by, without brackets
    port: int | None
    parameters: dict[str, str]  # by lower-case name; "" where there is no value


@dataclass(frozen=True, slots=True)
class Message:
    """One SIP message: its first line, its fields by full lower-case name, and the start of its body."""

    start: bytes
    fields: dict[str, list[str]]
    body: bytes

    @property
    def status(self) -> str | None:
        """The status code, None for a request or what is no SIP."""
        found = _STATUS_LINE.match(self.start)
        return found[1].decode("ascii") if found else None

    def first(self, name: str) -> str:
        """The first value of a field, "" where there is none."""
        return self.fields.get(name, [""])[0]

    @property
    def vias(self) -> list[Via]:
        """The Via values that can be read, topmost first; our own is the last, had the way been let alone."""
        values = [value for line in self.fields.get("via", [])[:_MOST_VIAS] for value in line.split(",")]
        return [via for value in values[:_MOST_VIAS] if (via := _via(value.strip())) is not None]


def _via(value: str) -> Via | None:
    found = _VIA.match(value.replace("\t", " "))
    if found is None:
        return None
    pairs = (item.partition("=") for item in (found[3] or "").split(";"))
    parameters = {name.strip().lower(): word.strip().strip("[]") for name, _, word in pairs}
    return Via(found[1].strip("[]"), int(found[2]) if found[2] else None, parameters)


def parse(data: bytes) -> Message:
    """A message; folded lines, compact names and any case are read (section 7.3). Never fails."""
    data = data.lstrip(b"\r\n")
    end = _HEAD_END.search(data)
    head = _FOLD.sub(b" ", data[: end.start()] if end else data)
    start, _, rest = head.partition(b"\n")
    fields: dict[str, list[str]] = {}
    for raw in rest.split(b"\n"):
        name, colon, value = raw.partition(b":")
        if colon:
            key = name.strip().lower().decode("latin-1")
            fields.setdefault(_COMPACT.get(key, key), []).append(text(value.strip()))
    return Message(start.rstrip(b"\r"), fields, data[end.end() :][:_MOST_BODY] if end else b"")


def head_ended(data: bytes) -> bool:
    """The empty line behind a message's fields is there."""
    return _HEAD_END.search(data) is not None


def messages(data: bytes) -> Iterator[bytes]:
    """The whole messages at the start of a stream, framed by Content-Length (section 18.3)."""
    for _ in range(_MOST_MESSAGES):
        data = data.lstrip(b"\r\n")
        end = _HEAD_END.search(data)
        if end is None:
            return
        length = parse(data[: end.end()]).first("content-length")
        body = int(length) if length.isascii() and length.isdigit() and len(length) < 9 else 0
        if len(data) < end.end() + body:
            return
        yield data[: end.end() + body]
        data = data[end.end() + body :]
