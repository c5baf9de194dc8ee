"""What Nmap says: its XML read as hostile text, and held against what we saw ourselves.

Pure functions, but for `child`: that module runs as a process of its own and is the only one that imports
python-nmap. Nothing here judges; a state of Nmap's becomes one of ours in `said` and nowhere else.
"""

from __future__ import annotations

from .elements import address_of
from .opinion import compared, contradicted, row_lines
from .said import NOT_TOLD, Seen, host_record, record, seen
from .values import NmapHost, NmapPort, NmapRun, NmapService, Rest
from .xml import LIMIT, MOST_HOSTS, read_nmap

__all__ = [
    "LIMIT",
    "MOST_HOSTS",
    "NOT_TOLD",
    "NmapHost",
    "NmapPort",
    "NmapRun",
    "NmapService",
    "Rest",
    "Seen",
    "address_of",
    "compared",
    "contradicted",
    "host_record",
    "read_nmap",
    "record",
    "row_lines",
    "seen",
]
