"""What each port is, then what the host is: fingerprints applied to what was said, with evidence.

Pure functions over the model's types. Every fact about a vendor stands in ``data/fingerprints/*.toml``
or in a pack that somebody learnt from a unit of their own, with its source and its examples; this room
only weighs. A class that the evidence does not carry is not claimed: better "Allworx, class unknown"
than a wrong name.
"""

from __future__ import annotations

from .fingerprints import (
    CLAIM,
    FAMILY,
    HEURISTIC_CEILING,
    PRODUCTS,
    TEXT_LIMIT,
    Companion,
    Example,
    Fingerprint,
    Known,
    Vocabulary,
    built_in,
    faults,
    load,
    vocabulary,
)
from .learn import Lesson, Part, Unit, learn
from .packs import default_folder, known_with, pack_name, read_pack, read_packs
from .weigh import Details, UnknownFieldError, classify_host, classify_port, details, match, match_line

__all__ = [
    "CLAIM",
    "FAMILY",
    "HEURISTIC_CEILING",
    "PRODUCTS",
    "TEXT_LIMIT",
    "Companion",
    "Details",
    "Example",
    "Fingerprint",
    "Known",
    "Lesson",
    "Part",
    "Unit",
    "UnknownFieldError",
    "Vocabulary",
    "built_in",
    "classify_host",
    "classify_port",
    "default_folder",
    "details",
    "faults",
    "known_with",
    "learn",
    "load",
    "match",
    "match_line",
    "pack_name",
    "read_pack",
    "read_packs",
    "vocabulary",
]
