"""Pictures made by hand for the tests: whole PNGs, and headers of the other kinds."""

from __future__ import annotations

import base64
import zlib


def png(width: int = 8, height: int = 4, *, more: bytes = b"") -> bytes:
    """A whole, single-coloured PNG; `more` is put behind its end."""
    rows = (b"\x00" + b"\x1c\x4f\x9c" * width) * height
    header = width.to_bytes(4) + height.to_bytes(4) + b"\x08\x02\x00\x00\x00"
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return (
        b"\x89PNG\r\n\x1a\n"
        + b"".join(len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4) for kind, body in chunks)
        + more
    )


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2) + body


def jpeg(width: int = 8, height: int = 4, *, frame: int = 0xC0, frames: int = 1) -> bytes:
    """A JPEG up to its scan."""
    size = b"\x08" + height.to_bytes(2) + width.to_bytes(2) + b"\x01\x01\x11\x00"
    return (
        b"\xff\xd8"
        + segment(0xE0, b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00")
        + segment(0xC4, bytes(20))  # a table, whose marker lies among those of the frames
        + b"\xff"  # a filler
        + segment(frame, size) * frames
        + segment(0xDA, b"\x01\x01\x00\x00\x3f\x00")
        + b"\x00\xff\xd9"
    )


def webp(kind: str = "VP8 ", width: int = 8, height: int = 4) -> bytes:
    """A WebP up to its header: lossy ``VP8 ``, lossless ``VP8L`` or extended ``VP8X``."""
    if kind == "VP8X":
        body = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif kind == "VP8L":
        body = b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little") + bytes(5)
    else:
        body = b"\x00\x00\x00\x9d\x01\x2a" + width.to_bytes(2, "little") + height.to_bytes(2, "little")
    chunks = b"WEBP" + kind.encode() + len(body).to_bytes(4, "little") + body
    return b"RIFF" + len(chunks).to_bytes(4, "little") + chunks


def uri(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
