"""Count the steps that a regular expression takes: clocks differ from machine to machine, counts do not.

A search by plain backtracking over the tree that `re` itself parses. What is repeated many times is
taken in one way each time, so a repeat inside a repeat must be looked for in the tree (`nested_repeats`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from re import _constants as c  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, TypeAlias

Node: TypeAlias = tuple[Any, Any]
_REPEATS = (c.MAX_REPEAT, c.MIN_REPEAT, c.POSSESSIVE_REPEAT)
_CATEGORIES = {c.CATEGORY_DIGIT: r"\d", c.CATEGORY_SPACE: r"\s", c.CATEGORY_WORD: r"\w"}
_CATEGORIES |= {c.CATEGORY_NOT_DIGIT: r"\D", c.CATEGORY_NOT_SPACE: r"\S", c.CATEGORY_NOT_WORD: r"\W"}


def tree(pattern: re.Pattern[str]) -> list[Node]:
    return list(_parser.parse(pattern.pattern, pattern.flags))


def nested_repeats(nodes: Sequence[Node], *, inside: bool = False) -> bool:
    """Whether something of no fixed length stands inside what may be repeated."""
    for op, value in nodes:
        repeats = op in _REPEATS and value[1] > 1 and value[0] != value[1]
        if repeats and inside:
            return True
        if any(nested_repeats(part, inside=inside or repeats) for part in _parts(op, value)):
            return True
    return False


def _parts(op: Any, value: Any) -> list[list[Node]]:
    if op in _REPEATS:
        return [list(value[2])]
    if op is c.SUBPATTERN:
        return [list(value[3])]
    if op is c.BRANCH:
        return [list(part) for part in value[1]]
    if op in (c.ASSERT, c.ASSERT_NOT):
        return [list(value[1])]
    return []


class Search:
    """One search: `found` as `re` would say, and the `steps` that it took."""

    def __init__(self, pattern: re.Pattern[str], text: str) -> None:
        self.text, self.steps = text, 0
        self.any_case = bool(pattern.flags & re.IGNORECASE)
        nodes = tree(pattern)
        self.found = any(True for start in range(len(text) + 1) for _ in self._ends(nodes, start))

    def _ends(self, nodes: Sequence[Node], at: int) -> Iterator[int]:
        if not nodes:
            yield at
            return
        for end in self._one(*nodes[0], at):
            yield from self._ends(nodes[1:], end)

    def _one(self, op: Any, value: Any, at: int) -> Iterator[int]:
        self.steps += 1
        if op is c.AT:
            if self._stands(value, at):
                yield at
        elif op is c.MAX_REPEAT:
            yield from self._repeat(value[0], value[1], list(value[2]), at)
        elif op in (c.SUBPATTERN, c.BRANCH):
            for part in _parts(op, value):
                yield from self._ends(part, at)
        elif op in (c.ASSERT, c.ASSERT_NOT):
            start = at if value[0] > 0 else at - value[1].getwidth()[0]
            seen = start >= 0 and any(True for _ in self._ends(list(value[1]), start))
            if seen == (op is c.ASSERT):
                yield at
        elif at < len(self.text) and self._fits(op, value, self.text[at]):
            yield at + 1

    def _repeat(self, least: int, most: int, part: list[Node], at: int) -> Iterator[int]:
        if most == 1:  # an optional part, in all ways
            yield from self._ends(part, at)
            if least == 0:
                yield at
            return
        ends = [at]
        while len(ends) <= most and (end := next(self._ends(part, ends[-1]), None)) not in (None, ends[-1]):
            ends.append(end)
        yield from reversed(ends[least:])

    def _stands(self, where: Any, at: int) -> bool:
        if where is c.AT_BEGINNING:
            return at == 0
        if where is c.AT_END:
            return self.text[at:] in ("", "\n")
        assert where is c.AT_BOUNDARY, f"{where} is not counted here"
        return re.compile(r"\b", re.ASCII).match(self.text, at) is not None

    def _fits(self, op: Any, value: Any, char: str) -> bool:
        chars = {char, char.lower(), char.upper()} if self.any_case and char.isascii() else {char}
        if op is c.IN:
            negated = value[0][0] is c.NEGATE
            return negated != any(self._fits(kind, item, char) for kind, item in value[negated:])
        if op is c.CATEGORY:
            return re.fullmatch(_CATEGORIES[value], char, re.ASCII) is not None
        if op is c.RANGE:
            return any(value[0] <= ord(one) <= value[1] for one in chars if len(one) == 1)
        if op is c.ANY:
            return char != "\n"
        assert op in (c.LITERAL, c.NOT_LITERAL), f"{op} is not counted here"
        return (chr(value) in chars) == (op is c.LITERAL)
