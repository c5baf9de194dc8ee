"""Many numbers as a short text: ports of a sweep and packets of a capture, ``12-18,40``."""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST_FRAMES = 16_000_000  # more packets than the largest capture holds
LAST_PORT = 65_535

_RANGE = re.compile(r"([1-9][0-9]{0,7})(?:-([1-9][0-9]{0,7}))?")


def ranges_text(numbers: Iterable[int]) -> str:
    """``1-20,26-52`` for ascending numbers, each once."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def read_ranges(text: str, most: int = MOST_FRAMES) -> tuple[range, ...]:
    """The numbers of a text such as ``12-18,40``, from 1 to `most`; none for an empty one.

    Raises:
        ValueError: the text holds no such numbers, they do not ascend, or are too large.
    """
    found: list[range] = []
    for part in text.split(",") if text else ():
        match = _RANGE.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not (found[-1].stop - 1 if found else 0) < first <= last <= most:
            raise ValueError(f"{text[:60]!r} are no numbers up to {most} in ascending order")
        found.append(range(first, last + 1))
    return tuple(found)


def joined_ranges(several: Iterable[range]) -> tuple[range, ...]:
    """The same numbers, ascending and each once; ranges that touch become one."""
    found: list[range] = []
    for one in sorted((one for one in several if one), key=lambda one: one.start):
        if found and one.start <= found[-1].stop:
            found[-1] = range(found[-1].start, max(one.stop, found[-1].stop))
        else:
            found.append(range(one.start, one.stop))
    return tuple(found)
