"""Joins the stages, for one site or a thousand: from what a person ordered to a scan that is judged.

The only room that knows all stages. One site is the case n = 1 of many, and a scan that is derived
again offline goes through the same lines as one that was made on the wire. Each name here is loaded when
it is asked for, so that a scan waits for no report, and a report for no socket.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .derive import differences
    from .held import disagreements
    from .pages import render, render_index, write_bundle, write_site
    from .rules import changed, judged_otherwise
    from .scanning import Notice, Progress, Result, now, rederive, scan_site, scan_sites

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
    "derive": ("differences",),
    "held": ("disagreements",),
    "pages": ("render", "render_index", "write_bundle", "write_site"),
    "rules": ("changed", "judged_otherwise"),
    "scanning": ("Notice", "Progress", "Result", "now", "rederive", "scan_site", "scan_sites"),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
