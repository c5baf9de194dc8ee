"""What each command loads before it works. A scan starts at once because it loads nothing that it does not use.

Not times, which differ from machine to machine, but what takes the time: modules.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
SAVED = REPOSITORY / "pcaps" / "lab" / "exposed-server.json"
OPEN = "198.51.100.10"  # the practice site's server; nothing there speaks TLS

# Nothing that only a report in HTML, mail, history, a schedule, a certificate, a name or Nmap's XML needs.
HEAVY = frozenset(
    {
        "apscheduler", "cryptography", "css_inline", "defusedxml", "dns", "jinja2", "markupsafe", "nmap", "scapy",
        "smtplib", "sqlalchemy", "tomli_w", "xml",
    }
)  # fmt: skip
_RUN = """
import atexit, sys
def tell():
    with open(sys.argv[0], "w") as file:
        file.write("\\n".join(sys.modules))
words = sys.argv[1:]
out = words.pop(0)
atexit.register(lambda: open(out, "w").write("\\n".join(sys.modules)))
sys.argv = ["exposure-scan", *words]
from exposure_scan.__main__ import main
main()
"""


def loaded(tmp_path: Path, *words: str, code: int = 0) -> frozenset[str]:
    """The modules that a command has loaded when it ends."""
    listed = tmp_path / "modules"
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(listed), *words],
        cwd=REPOSITORY,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return frozenset(listed.read_text().splitlines())

def test_x(tmp_path, practice_site):
    import json
    SKIP=('encodings',)
    for words,code in ((["--version"],0),(["--help"],0),(["scan","--help"],0),(["scan",OPEN,"--authorized-by","x","--quiet"],1),(["report",str(SAVED),"--format","csv"],0),(["verify","/tmp/p2_bundle.zip"],0)):
        m=loaded(tmp_path,*words,code=code)
        print(words, len(m), sorted({x.split('.')[0] for x in m if not x.startswith('_')}))
        print(sorted(x for x in m if x.startswith('exposure_scan')))
