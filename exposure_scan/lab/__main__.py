"""A command beside the practice site: ``python -m exposure_scan.lab -- COMMAND [ARGUMENT]...``.

The devices are up while the command runs, inside a private network that leads nowhere.
"""

from __future__ import annotations

import subprocess
import sys

from .devices import running
from .namespace import NamespaceRefused, enter_and_run, inside

_USAGE = "usage: python -m exposure_scan.lab -- COMMAND [ARGUMENT]...\n"


def main(words: list[str]) -> int:
    """Run the command and return its exit code."""
    if words[:1] != ["--"] or len(words) < 2:
        sys.stderr.write(_USAGE)
        return 2
    if not inside():
        try:
            return enter_and_run([sys.executable, "-m", "exposure_scan.lab", *words])
        except NamespaceRefused as refused:
            sys.stderr.write(f"{refused}\n")
            return 70  # EX_SOFTWARE of sysexits.h
    with running():
        try:
            return subprocess.run(words[1:], check=False).returncode  # noqa: S603 - the caller's own command
        except OSError as error:
            sys.stderr.write(f"{words[1]}: {error.strerror}\n")
            return 127


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
