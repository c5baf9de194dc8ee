"""The page `docs/what-we-send.md` as patterns: what it says that we send, to be held against what we do send."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).parents[1] / "docs"))
import make_what_we_send as maker

CONTACT = "partner@practice.invalid"  # of the practice site's sites file
_BLOCK = re.compile(r"```text\n(.*?)```", re.DOTALL)
_IN_MAIL = re.compile(r"`([^`]+)`")
_ADDRESS = rb"\[?[0-9a-f.:]+\]?"
_MEANS = {
    maker.RANDOM: rb"[0-9a-f]+",
    "⟨our address⟩": _ADDRESS,
    "⟨your address⟩": _ADDRESS + rb"(?::[0-9]+)?",
    "⟨our port⟩": rb"[0-9]+",
}
_CODES = slice(6, 53)  # of a line of hexadecimal


class Shown(NamedTuple):
    """One message of the page: under which heading, and what it means."""

    heading: str
    pattern: re.Pattern[bytes]
    size: int  # bytes, of what is shown in hexadecimal


def is_stale() -> bool:
    """Whether the page is another than the one that would be made now."""
    text = maker.PAGE.read_text("utf-8")
    return maker.page(text) != text


def shown() -> list[Shown]:
    """All messages of the page, as it would be for the practice site's partner."""
    page = maker.page(maker.PAGE.read_text("utf-8"), CONTACT)
    of_text = _part(page, "words")
    mail = of_text.pop("Mail")
    found = [
        Shown("Mail", re.compile(re.escape(word.encode()) + rb"\r\n"), 0)
        for line in mail.splitlines()
        for word in _IN_MAIL.findall(line)
    ]
    for heading, text in of_text.items():
        found += [Shown(heading, _of_text(block), 0) for block in _BLOCK.findall(text)]
    for heading, text in _part(page, "bytes").items():
        if heading not in of_text and heading not in {"SMTP", "IMAP", "POP3"}:
            found += [_of_hex(heading, dump) for dump in _BLOCK.findall(text)[0].strip("\n").split("\n\n")]
    return found


def _part(page: str, name: str) -> dict[str, str]:
    """The text below each heading of a made part."""
    inside = page.partition(f"<!-- made: {name} -->")[2].partition(f"<!-- end: {name} -->")[0]
    pieces = re.split(r"^### (.+)\n", inside, flags=re.MULTILINE)[1:]
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


def _of_text(block: str) -> re.Pattern[bytes]:
    pattern = re.escape(block.rstrip("\n").replace("\n", "\r\n").encode())
    for name, meaning in _MEANS.items():
        pattern = pattern.replace(re.escape(name.encode()), meaning)
    return re.compile(pattern + rb"(?:\r\n\r\n)?")


def _of_hex(heading: str, dump: str) -> Shown:
    codes = [code for line in dump.splitlines() for code in line[_CODES].split()]
    pattern = b"".join(b"." if code == maker.ANY_BYTE else re.escape(bytes.fromhex(code)) for code in codes)
    return Shown(heading, re.compile(pattern, re.DOTALL), len(codes))
