"""Joins the stages, for one site or a thousand: from what a person ordered to a scan that is judged.

The only room that knows all stages. One site is the case n = 1 of many, and a scan that is derived
again offline goes through the same lines as one that was made on the wire.
"""

from __future__ import annotations

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
