"""What conversations share: words that are unique yet repeatable, and what was heard as text.

Every word that must be unique (a branch, an id, a nonce) is made from the token of the question, so
that the same token gives the same bytes and a recorded conversation can be repeated offline.
"""

from __future__ import annotations

import hashlib
import re

from exposure_scan.conversation import escape

NAME = "exposure-scan"
OUR_HOST = "exposure-scan.invalid"  # RFC 2606: belongs to nobody, and says who asks
LONGEST = 1000  # characters that are kept of one text

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_UNPRINTABLE = re.compile(r"[^ -~]")
_LINE_END = re.compile(r"\r?\n|\r")


def unique(token: str, purpose: str, number: int = 1, size: int = 8) -> bytes:
    """`size` bytes for one purpose and one connection, the same ones for the same token."""
    data = b""
    while len(data) < size:
        data += hashlib.sha256(f"{token}/{purpose}/{number}/{len(data)}".encode()).digest()
    return data[:size]


def text(data: bytes) -> str:
    """What was received as text: UTF-8 if it is valid, else Latin-1, which loses no byte."""
    try:
        return data.decode()[:LONGEST]
    except UnicodeDecodeError:
        return data.decode("latin-1")[:LONGEST]


def lines(data: bytes) -> list[str]:
    """The lines of a text, without their ends."""
    return _LINE_END.split(text(data))


def first_line(data: bytes) -> str | None:
    """The first line that is not blank; with control characters in it, escaped. None where there is none."""
    for line in _LINE_END.split(data[: 4 * LONGEST].decode("latin-1")):
        if line.strip("\0 \t"):
            raw = line.encode("latin-1")
            return escape(raw)[:LONGEST] if _CONTROL.search(text(raw)) else text(raw)
    return None


def printable(words: str) -> str:
    """ASCII words for a header of ours: whatever could end the line, or is no ASCII, becomes a space."""
    return _UNPRINTABLE.sub(" ", words)


def host(address: str) -> str:
    """An address as URIs and Host headers write it (RFC 3986, section 3.2.2)."""
    return f"[{address}]" if ":" in address else address
