"""Colours as ``#rrggbb``, and how well one is read on another."""

from __future__ import annotations

import re

READABLE = 4.5
"""The least contrast of text with its ground (WCAG 2.2, success criterion 1.4.3)."""

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def is_colour(text: str) -> bool:
    """Whether the text is a colour written as ``#1c4f9c``."""
    return _COLOUR.fullmatch(text) is not None


def contrast(colour: str, ground: str = "#ffffff") -> float:
    """The contrast ratio of two colours, from 1 to 21 (WCAG 2.2, "contrast ratio"). Their order does not matter."""
    darker, lighter = sorted((_luminance(colour), _luminance(ground)))
    return (lighter + 0.05) / (darker + 0.05)


def darkened(colour: str, least: float = READABLE) -> str:
    """The same hue, just dark enough for white text on it to have the contrast `least`."""
    levels = _levels(colour)
    for share in range(100, 0, -1):
        darker = "#" + "".join(f"{level * share // 100:02x}" for level in levels)
        if contrast(darker) >= least:
            return darker
    return "#000000"


def _luminance(colour: str) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.2, "relative luminance")."""
    red, green, blue = (_linear(level / 255) for level in _levels(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _levels(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))


def _linear(level: float) -> float:
    return level / 12.92 if level <= 0.04045 else float(((level + 0.055) / 1.055) ** 2.4)
