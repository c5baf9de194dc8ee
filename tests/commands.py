"""The command line, run inside the test's own process as a user would run it; and what `make` would do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from exposure_scan.cli import run


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Say = Callable[..., Said]


def sayer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, columns: int | None = None
) -> Say:
    """Runs one command at a time in `folder`; whatever it does, it must end by an exit code."""
    monkeypatch.chdir(folder)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", str(columns))

    def one(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["exposure-scan", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run()
        out, err = capsys.readouterr()
        return Said(ended.value.code if isinstance(ended.value.code, int) else 0, out, err)

    return one


def would_make(*words: str) -> subprocess.CompletedProcess[str]:
    """What `make` says it would do, from the project's folder and not as a part of the `make` that runs the tests."""
    alone = {key: text for key, text in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(
        ["make", "--dry-run", *words],
        cwd=Path(__file__).parents[1],
        env=alone,
        capture_output=True,
        text=True,
        check=False,
    )
