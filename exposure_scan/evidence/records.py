"""What Nmap said, for the customer's copy: the masks on the record that an imported scan keeps of a port.

A record is lines of ``name key="value" ...``. Its values are texts of their own: raw replies in Nmap's escapes, a
banner that was broken into lines, a certificate as PEM.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeAlias
from xml.sax.saxutils import escape, unescape

PROBE = "nmap"

Masking: TypeAlias = Callable[[bytes], bytes]

_PAIR = re.compile(r' ([a-z_]+)="([^"\n]*)"')
_TO_TEXT: Mapping[str, str] = MappingProxyType({'"': "&quot;", "\r": "&#13;", "\n": "&#10;", "\t": "&#9;"})
_FROM_TEXT: Mapping[str, str] = MappingProxyType({text: char for char, text in _TO_TEXT.items()})
_OURS = frozenset({"id", "state", "reason", "reason_ip", "reason_ttl", "name", "method", "conf", "tunnel"})
_REPLY = re.compile(r'(%r\([A-Za-z0-9_-]{1,40},[0-9A-F]{1,5},")((?:[^"\\]|\\.)*)("\))', re.DOTALL)
_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.)", re.DOTALL)
_NAMED: Mapping[bytes, bytes] = MappingProxyType({b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0"})
_PLAIN = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz .,:;/_=<>@+*-")
_PEM = re.compile(r"(-----BEGIN CERTIFICATE-----\s*)([A-Za-z0-9+/=\s]+?)(\s*-----END CERTIFICATE-----\s*)")


def mask_record(record: str, text: Masking, certificate: Masking) -> str:
    """The record with its values masked by `text`, and its certificate by `certificate`."""
    return "\n".join(_line(line, text, certificate) for line in record.split("\n"))


def record_texts(record: str) -> Iterator[bytes]:
    """The texts of a record as they are masked, without certificates."""
    found: list[bytes] = []

    def keep(text: bytes) -> bytes:
        found.append(text)
        return text

    mask_record(record, keep, lambda der: der)
    yield from found


def record_certificates(record: str) -> Iterator[bytes]:
    """The certificates of a record, in DER form."""
    found: list[bytes] = []

    def keep(der: bytes) -> bytes:
        found.append(der)
        return der

    mask_record(record, lambda text: text, keep)
    yield from found


def _line(line: str, text: Masking, certificate: Masking) -> str:
    head, _, _ = line.partition(" ")
    values = {key: unescape(value, dict(_FROM_TEXT)) for key, value in _PAIR.findall(line)}
    script = values.get("id", "") if head == "script" else ""

    def masked(pair: re.Match[str]) -> str:
        key, value = pair[1], unescape(pair[2], dict(_FROM_TEXT))
        if key in _OURS:
            return pair[0]
        if key == "servicefp":
            made = _REPLY.sub(lambda reply: reply[1] + _escaped(text(_raw(reply[2]))) + reply[3], value)
        elif key == "pem":
            made = _pem(value, certificate)
        elif script == "banner":
            made = _unbroken(value, text)
        else:
            # A script's name stands before its words, for the rules that know what it tells.
            named = f"{script}\n".encode() if script else b""
            made = text(named + value.encode("utf-8", "replace"))[len(named) :].decode("utf-8", "replace")
        return pair[0] if made == value else f' {key}="{escape(made, dict(_TO_TEXT))}"'

    return _PAIR.sub(masked, line)


def _unbroken(value: str, text: Masking) -> str:
    """A text that was broken into lines for a terminal, masked as one, and broken again."""
    whole = value.replace("\n", "").encode("utf-8", "replace")
    made = text(whole).decode("utf-8", "replace")
    if len(made) != len(whole.decode("utf-8", "replace")):
        return made  # a masked letter was of several bytes: where lines end is lost
    parts, at = [], 0
    for part in value.split("\n"):
        parts.append(made[at : at + len(part)])
        at += len(part)
    return "\n".join(parts)


def _raw(words: str) -> bytes:
    def plain(found: re.Match[bytes]) -> bytes:
        word = found[1]
        return bytes([int(word[1:], 16)]) if len(word) == 3 else _NAMED.get(word, word)

    return _ESCAPE.sub(plain, words.encode("utf-8", "replace"))


def _escaped(data: bytes) -> str:
    return "".join(chr(byte) if byte in _PLAIN else f"\\x{byte:02X}" for byte in data)


def _pem(value: str, certificate: Masking) -> str:
    """The PEM text with its certificate masked; as a text without letters where there is none to read."""
    found = _PEM.search(value)
    try:
        der = base64.b64decode(re.sub(r"\s", "", found[2]), validate=True) if found else b""
    except (binascii.Error, ValueError):
        der = b""
    if found is None or not der:
        return re.sub(r"[0-9A-Za-z+/]", "x", value)
    made = iter(base64.b64encode(certificate(der)).decode())
    body = "".join(char if char.isspace() else next(made, "=") for char in found[2])
    return value[: found.start()] + found[1] + body + found[3] + value[found.end() :]
