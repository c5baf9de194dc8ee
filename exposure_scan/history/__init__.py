"""What was found before: scans of a site held against each other."""

from __future__ import annotations

from .changes import Look, look_of, past

__all__ = ["Look", "look_of", "past"]
