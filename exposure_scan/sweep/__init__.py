"""Joins the stages, for one site or a thousand: from what a person ordered to a scan that is judged.

The only room that knows all stages. One site is the case n = 1 of many, and a scan that is derived
again offline goes through the same lines as one that was made on the wire.
"""

from __future__ import annotations

from .derive import differences
from .pages import render, render_index, write_site
from .scanning import Notice, Progress, Result, now, rederive, scan_site, scan_sites

__all__ = [
    "Notice",
    "Progress",
    "Result",
    "differences",
    "now",
    "rederive",
    "render",
    "render_index",
    "scan_site",
    "scan_sites",
    "write_site",
]
