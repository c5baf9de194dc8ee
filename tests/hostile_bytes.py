"""Damage: plausible bytes in, the same with something wrong in them out.

One function serves the property tests, where hypothesis plays the dice and makes a failure smaller, and the
coverage-guided run (tests/fuzz.py), which hands it what it has found so far.
"""

from __future__ import annotations

import io
import json
import re
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from hashlib import sha256
from random import Random
from typing import Any, TypeAlias

import tomli_w

LARGEST = 200_000  # bytes of one input
_MOST_EDITS = 5
_DEEPEST = 2000  # of what is nested; every reader stops far before

Damage: TypeAlias = Callable[[Random, Sequence[bytes]], bytes]

# The values at which lengths, counts and signs turn over, in both byte orders.
BOUNDARIES = tuple(
    dict.fromkeys(
        value.to_bytes(size, order)
        for size in (1, 2, 4, 8)
        for value in (0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1)
        for order in ("big", "little")
    )
)  # fmt: skip
NUMBERS = tuple(
    word.encode()
    for word in (
        "0", "-0", "-1", "1", "00000000000000000007", "127", "128", "255", "256", "65535", "65536", "2147483647",
        "2147483648", "4294967295", "4294967296", "9223372036854775808", "18446744073709551616", "1e9", "1e999",
        "-1e999", "0x10", "1_000", "0.5", "NaN", "Infinity", "9" * 30, "9" * 5000, "٣", "²", "",
    )
)  # fmt: skip
WORDS = (
    b"\0", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b"\t", b" ", b"\x1b[2J", b"\x7f", b"\xff", b"\xfe",
    b"\xc0\x80",
    b"\xed\xa0\x80", b"\xe2\x80\xae", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\xef\xbf\xbd", b"=cmd()", b"<script>",
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"]]>", b"<!--", b'"', b"'", b"\\", b"%", b"%00", b"{", b"}", b"[",
    b"]", b"(", b")", b"<", b">", b":", b";", b",", b"=", b"../", b"{{7*7}}", b"\\u0000", b"\\ud800", b"\\x00", b"null",
    b"true",
)  # fmt: skip
_BRACKETS = ((b"[", b"]"), (b"{", b"}"), (b"(", b")"), (b"<a>", b"</a>"), (b'{"a":', b"}"), (b"\x30\x80", b"\0\0"))
_NUMBER = re.compile(rb"[0-9]+")


# --- edits -----------------------------------------------------------------------------------------

_Edit: TypeAlias = Callable[[Random, bytes, Sequence[bytes]], bytes]


def _span(chance: Random, data: bytes) -> tuple[int, int]:
    """Some place in the bytes and another behind it, mostly a near one."""
    start = chance.randint(0, len(data))
    size = chance.randint(0, 8) if chance.random() < 0.7 else chance.randint(0, len(data))
    return start, min(len(data), start + size)


def _ends_early(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: chance.randint(0, len(data))]


def _cut_out(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(chance, data)
    return data[:start] + data[end:]


def _said_twice(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(chance, data)
    return data[:end] + data[start:end] * chance.choice((1, 1, 2, 20, 300)) + data[end:]


def _swapped(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    (first, middle), (begin, last) = sorted((_span(chance, data), _span(chance, data)))
    begin, last = max(begin, middle), max(last, middle)
    return data[:first] + data[begin:last] + data[middle:begin] + data[first:middle] + data[last:]


def _flipped(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return data
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def _overwritten(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at, put = chance.randint(0, len(data)), chance.choice(BOUNDARIES)
    return data[:at] + put + data[at + len(put) :]


def _inserted(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at, put = chance.randint(0, len(data)), chance.choice((*BOUNDARIES, *WORDS))
    return data[:at] + put + data[at:]


def _renumbered(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    places = [found.span() for found in _NUMBER.finditer(data)]
    if not places:
        return data
    start, end = chance.choice(places)
    return data[:start] + chance.choice(NUMBERS) + data[end:]


def _long(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at, put = chance.randint(0, len(data)), chance.choice((b"A", b"\0", b" ", b"\xff", b"a,", b"\r\n ", b"a: b\r\n"))
    return data[:at] + put * chance.choice((300, 1100, 9000, 70_000)) + data[at:]


def _nested(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    (start, end), (opens, closes) = _span(chance, data), chance.choice(_BRACKETS)
    deep = chance.choice((3, 40, _DEEPEST))
    return data[:start] + opens * deep + data[start:end] + closes * deep + data[end:]


def _from_another(chance: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    other = chance.choice(seeds)
    start, end = _span(chance, other)
    at, until = _span(chance, data)
    return data[:at] + other[start:end] + data[until:]


def _lines_moved(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    lines = data.splitlines(keepends=True)
    if not lines:
        return data
    line = lines.pop(chance.randrange(len(lines)))
    for _time in range(chance.choice((0, 1, 1, 2, 120))):
        lines.insert(chance.randint(0, len(lines)), line)
    return b"".join(lines)


_EDITS: tuple[_Edit, ...] = (
    _ends_early, _cut_out, _said_twice, _swapped, _flipped, _flipped, _overwritten, _overwritten, _inserted, _inserted,
    _renumbered, _renumbered, _long, _nested, _from_another, _lines_moved,
)  # fmt: skip


def damaged(chance: Random, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds after none to five edits."""
    data = chance.choice(seeds)
    for _ in range(chance.randint(0, _MOST_EDITS)):
        data = chance.choice(_EDITS)(chance, data, seeds)[:LARGEST]
    return data


# --- documents: damage that leaves the form whole, so that it reaches who reads the meaning ------------

_ODD: tuple[Any, ...] = (
    "", " ", "\0", "\x1b[2J\u202e", "\ud7ff", "a" * 3000, "=1+1", "<b>", "../../etc", "-1", "tcp/0", "tcp/99999",
    "udp/5060",
    "198.51.100.10", "2001:db8::1", "0x7f.1", "fe80::1%eth0", "65536", "1-20,15", "\\x0", "\\xff", "\\", "|", "a|b c|d",
    "type=3 code=13 from=::", "not-connected rst", "9999-12-31T23:59:59-12:00", "0001-01-01", "2026-11-25T00:00:00Z",
    0, -1, 1, 65535, 65536, 2**31, 2**63 - 1, 0.5, -0.0, 1e308, 5e-324, True, False, [], {}, [""], [[]], {"a": "b"},
)  # fmt: skip
_ONLY_JSON: tuple[Any, ...] = (None, 2**70, -(2**70))
_ONLY_TOML: tuple[Any, ...] = (
    float("nan"), float("inf"), date(1, 1, 1), date(9999, 12, 31), datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-12))), time(10),
)  # fmt: skip


def _places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value of a document."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(place for key, value in inside for place in _places(value, (*path, key)))]


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _bent(chance: Random, tree: Any, odd: Sequence[Any]) -> None:
    """Change one value in place: another one, a part of another place, gone, twice, under another name."""
    places = _places(tree)[1:]
    if not places:
        return
    *way, key = chance.choice(places)
    holder = _at(tree, tuple(way))
    what = chance.choice(("odd", "odd", "odd", "elsewhere", "gone", "twice", "renamed", "letter"))
    if what == "odd":
        holder[key] = chance.choice(odd)
    elif what == "elsewhere":
        holder[key] = json.loads(json.dumps(_at(tree, chance.choice(places)), default=str))
    elif what == "gone":
        del holder[key]
    elif what == "twice" and isinstance(holder, list):
        holder[:] = [*holder, *[holder[key]] * chance.choice((1, 2, 40))]
    elif what == "renamed" and isinstance(holder, dict):
        holder[str(chance.choice([place[-1] for place in places]))] = holder.pop(key)
    elif isinstance(holder[key], str):
        text = damaged(chance, [holder[key].encode("utf-8", "replace")])[:4000]
        holder[key] = text.decode("utf-8", "replace")


def _document(load: Callable[[bytes], Any], dump: Callable[[Any], str], odd: Sequence[Any]) -> Damage:
    def damage(chance: Random, seeds: Sequence[bytes]) -> bytes:
        data = chance.choice(seeds)
        if chance.random() < 0.2:
            return damaged(chance, seeds)
        with suppress(ValueError, TypeError, RecursionError, AttributeError):  # no document any more, or none that
            tree = load(data)  # can be written
            for _ in range(chance.randint(1, 4)):
                _bent(chance, tree, odd)
            return dump(tree).encode("utf-8", "surrogatepass")[: 4 * LARGEST]
        return damaged(chance, seeds)

    return damage


damaged_json = _document(json.loads, lambda tree: json.dumps(tree, ensure_ascii=False), (*_ODD, *_ONLY_JSON))
damaged_toml = _document(lambda data: tomllib.loads(data.decode()), tomli_w.dumps, (*_ODD, *_ONLY_TOML))


def damaged_zip(chance: Random, seeds: Sequence[bytes]) -> bytes:
    """The archive's own bytes damaged, or a part of it, and then mostly the sums made to agree with that."""
    if chance.random() < 0.3:
        return damaged(chance, seeds)
    try:
        with zipfile.ZipFile(io.BytesIO(chance.choice(seeds))) as archive:
            parts = {info.filename: archive.read(info) for info in archive.infolist() if info.file_size < LARGEST}
    except Exception:  # whatever zipfile says of damage: then there are no parts to damage
        return damaged(chance, seeds)
    if not parts:
        return damaged(chance, seeds)
    name = chance.choice(sorted(parts))
    how = damaged_json if name.endswith(".json") else damaged
    parts[name] = how(chance, [parts[name]])
    if chance.random() < 0.1:
        parts[chance.choice((*sorted(parts), "../evil", "a\nb", ""))] = b"more"
    if "SHA256SUMS" in parts and name != "SHA256SUMS" and chance.random() < 0.9:
        told = (f"{sha256(data).hexdigest()}  {part}\n" for part, data in parts.items() if part != "SHA256SUMS")
        parts["SHA256SUMS"] = "".join(told).encode()
    return zipped(parts)


def zipped(parts: dict[str, bytes]) -> bytes:
    """An archive of these parts; the same ones always give the same bytes."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return whole.getvalue()
