"""What every format of a report is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exposure_scan.model import Past, Scan

from .words import PracticeText


@dataclass(frozen=True, slots=True)
class Material:
    """A scan, the texts of its practices, how it stands against the scans before, and whose templates show it."""

    scan: Scan
    practices: tuple[PracticeText, ...]
    past: Past
    templates: Path | None  # files in it are taken before the product's own
