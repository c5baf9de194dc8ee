"""What a picture file says of itself in its first bytes. Nothing is decoded."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

MOST_BYTES = 32 * 1024
MOST_WIDTH, MOST_HEIGHT = 1200, 400  # pixels

_DATA_URI = re.compile(r"data:(image/(?:png|jpeg|webp));base64,([A-Za-z0-9+/]+={0,2})")
_PNG = b"\x89PNG\r\n\x1a\n"
# JPEG (ITU-T T.81, table B.1): markers that begin a frame, and markers that stand alone.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_END, _SCAN = 0xD9, 0xDA


@dataclass(frozen=True, slots=True)
class Picture:
    """The kind of a picture and its size in pixels, as its header says."""

    mime: str
    width: int
    height: int


def read_logo(data: bytes) -> Picture:
    """The header of a logo.

    Raises:
        ValueError: it is no PNG, JPEG or WebP picture, or too large, in words that follow "the logo".
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"is larger than {MOST_BYTES // 1024} KB; save a smaller one")
    if _is_svg(data):
        raise ValueError("is an SVG picture, which can hold scripts; save it as PNG, JPEG or WebP")
    found = _png(data) or _jpeg(data) or _webp(data)
    if found is None:
        raise ValueError("is no PNG, JPEG or WebP picture; save it as one of them")
    if not (found.width and found.height):
        raise ValueError("is a picture of no size; save it anew")
    if found.width > MOST_WIDTH or found.height > MOST_HEIGHT:
        size = f"{found.width}x{found.height} pixels"
        raise ValueError(f"has {size}, and at most {MOST_WIDTH}x{MOST_HEIGHT} are taken; save a smaller one")
    return found


def logo_uri(data: bytes) -> str:
    """A logo as a ``data:`` URI (RFC 2397).

    Raises:
        ValueError: it is no logo (`read_logo`).
    """
    return f"data:{read_logo(data).mime};base64,{base64.b64encode(data).decode()}"


def is_logo_uri(text: str) -> bool:
    """Whether the text is a ``data:`` URI that `logo_uri` could have made."""
    if len(text) > MOST_BYTES * 2:
        return False
    match = _DATA_URI.fullmatch(text)
    if match is None:
        return False
    try:
        return logo_uri(base64.b64decode(match[2], validate=True)) == text
    except (binascii.Error, ValueError):
        return False


def _is_svg(data: bytes) -> bool:
    start = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return start.startswith(b"<") and b"<svg" in start


def _png(data: bytes) -> Picture | None:
    """PNG, third edition, sections 5.2 and 11.2.1."""
    if data[:16] != _PNG + b"\x00\x00\x00\x0dIHDR" or len(data) < 33:
        return None
    return Picture("image/png", int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))


def _jpeg(data: bytes) -> Picture | None:
    """JPEG: the segments up to the first scan, with one frame header among them (ITU-T T.81, annex B)."""
    if data[:2] != b"\xff\xd8":
        return None
    frames: list[tuple[int, int]] = []
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _ALONE:  # 0xFF before a marker is a filler
            at += 1 if marker == 0xFF else 2
            continue
        if marker == _END:
            return None
        length = int.from_bytes(data[at + 2 : at + 4])
        segment = data[at + 4 : at + 2 + length]
        if length < 2 or len(segment) != length - 2:
            return None
        if marker == _SCAN:
            return Picture("image/jpeg", *frames[0]) if len(frames) == 1 else None
        if marker in _FRAMES:
            if len(segment) < 6:
                return None
            frames.append((int.from_bytes(segment[3:5]), int.from_bytes(segment[1:3])))
        at += 2 + length
    return None


def _webp(data: bytes) -> Picture | None:
    """WebP (RFC 9649, sections 2.5 to 2.7; the frame header of VP8 is that of RFC 6386, section 9.1)."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or int.from_bytes(data[4:8], "little") + 8 > len(data):
        return None
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        return None
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(body[start : start + 2], "little") & 0x3FFF for start in (6, 8))
    elif kind == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8X":
        width, height = (int.from_bytes(body[start : start + 3], "little") + 1 for start in (4, 7))
    else:
        return None
    return Picture("image/webp", width, height)
