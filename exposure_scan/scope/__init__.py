"""Who may be scanned: the sites file, authorization, names -> addresses. The only maker of a Target.

A person orders a scan (`Order`), from the sites file or in words of the command line. `resolve`
turns an order into targets after every check passed. Whatever is wrong is told as a
`model.Problem`, all mistakes at once, before a packet is sent.

What reads the sites file is loaded when it is asked for: its form is large, and a scan of an address
needs none of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .names import resolve
from .order import NOWHERE, Order, Words, order_from_words, parse_services, with_words

if TYPE_CHECKING:
    from .sites import SitesFile, read_sites_file

__all__ = [
    "NOWHERE",
    "Order",
    "SitesFile",
    "Words",
    "order_from_words",
    "parse_services",
    "read_sites_file",
    "resolve",
    "with_words",
]

_OF_SITES = ("SitesFile", "read_sites_file")


def __getattr__(name: str) -> object:
    if name not in _OF_SITES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".sites", __name__), name)
