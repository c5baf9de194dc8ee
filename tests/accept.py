"""Writes the golden files anew: what the report of three practice sites is from now on. Run by `make accept`.

Look at what changed (`git diff tests/golden`) before you keep it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from exposure_scan import sweep
from exposure_scan.report import load_scan

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
LAB = HERE.parent / "pcaps" / "lab"
SITES = ("exposed-server", "silent-site", "moved-voicemail")
FORMATS = ("json", "html")
NAMES = tuple(f"{site}.{form}" for site in SITES for form in FORMATS)


@cache
def made(name: str) -> bytes:
    """A golden file as it is made now: from the evidence of a kept scan, whose scanner's version it bears."""
    site, _, form = name.rpartition(".")
    scan = sweep.rederive(load_scan((LAB / f"{site}.json").read_text("utf-8")))
    return sweep.render(scan, form)


def accept(folder: Path) -> Iterator[str]:
    """Write every golden file to a folder and take away what is none; one line for each that changes."""
    folder.mkdir(exist_ok=True)
    for file in sorted(folder.iterdir()):
        if file.name not in NAMES:
            file.unlink()
            yield f"gone     {file.name}"
    for name in NAMES:
        file = folder / name
        if not file.is_file() or file.read_bytes() != made(name):
            file.write_bytes(made(name))
            yield f"written  {name}"


def main() -> None:
    """Accept, and say what changed."""
    for line in list(accept(GOLDEN)) or ["The golden files are as they were."]:
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
