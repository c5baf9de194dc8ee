"""Who may be scanned: the sites file, authorization, names -> addresses. The only maker of a Target.

A person orders a scan (`Order`), from the sites file or in words of the command line. `resolve`
turns an order into targets after every check passed. Whatever is wrong is told as a
`model.Problem`, all mistakes at once, before a packet is sent.
"""

from __future__ import annotations

from .names import resolve
from .order import NOWHERE, Order, Words, order_from_words, parse_services, with_words
from .sites import SitesFile, folder, read_sites_file

__all__ = [
    "NOWHERE",
    "Order",
    "SitesFile",
    "Words",
    "folder",
    "order_from_words",
    "parse_services",
    "read_sites_file",
    "resolve",
    "with_words",
]
