"""What a scan leaves behind for others to check: the bundle that `verify` reads.

`bundle` writes and reads it. `redaction` makes the copy that may leave the partner's hands.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .bundle import (
    BUNDLE,
    CAPTURE,
    KEYS,
    LIMIT,
    NOTE,
    REPORT,
    SCAN,
    SESSIONS,
    SUMS,
    TRANSCRIPT,
    Bundle,
    read_bundle,
    sums,
    tls_sessions,
    write_bundle,
)

if TYPE_CHECKING:
    from .redaction import Redaction, redact

__all__ = [
    "BUNDLE",
    "CAPTURE",
    "KEYS",
    "LIMIT",
    "NOTE",
    "REPORT",
    "SCAN",
    "SESSIONS",
    "SUMS",
    "TRANSCRIPT",
    "Bundle",
    "Redaction",
    "read_bundle",
    "redact",
    "sums",
    "tls_sessions",
    "write_bundle",
]


def __getattr__(name: str) -> object:
    if name not in ("Redaction", "redact"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".redaction", __name__), name)
