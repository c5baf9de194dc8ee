"""What the programs that we start are given of this process: what they need to run, and no secret."""

from __future__ import annotations

import os

_NEEDED = frozenset(
    {
        "HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONPATH", "PYTHONUSERBASE", "TMPDIR",
        "TZ", "VIRTUAL_ENV",
    }
)  # fmt: skip


def environment() -> dict[str, str]:
    """The environment of a child process.

    A mail password, a database's URL or a proxy's may stand in a variable of any name, so what may pass is
    listed. What would change how a program behaves (NMAPDIR) does not pass, either.
    """
    return {key: value for key, value in os.environ.items() if key in _NEEDED or key.startswith("LC_")}
