"""Joins the stages, for one site or a thousand: from what a person ordered to a scan that is judged.

The only room that knows all stages. One site is the case n = 1 of many, and a scan that is derived
again offline goes through the same lines as one that was made on the wire. What a scan does not need
is loaded when it is asked for, so that a scan starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .derive import differences
from .rules import changed, judged_otherwise
from .scanning import Notice, Progress, Result, now, rederive, scan_site, scan_sites

if TYPE_CHECKING:
    from .held import disagreements
    from .pages import render, render_index, write_bundle, write_site

__all__ = [
    "Notice",
    "Progress",
    "Result",
    "changed",
    "differences",
    "disagreements",
    "judged_otherwise",
    "now",
    "rederive",
    "render",
    "render_index",
    "scan_site",
    "scan_sites",
    "write_bundle",
    "write_site",
]

_HOMES = {
    "disagreements": "held",
    "render": "pages",
    "render_index": "pages",
    "write_bundle": "pages",
    "write_site": "pages",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
