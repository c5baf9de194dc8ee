"""What each command loads before it works: a command starts at once because it loads nothing that it does not use.

Not times, which differ from machine to machine, but what takes the time: modules.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from exposure_scan.lab.network import add_address

REPOSITORY = Path(__file__).parent.parent
SAVED = REPOSITORY / "pcaps" / "lab" / "exposed-server.json"
HOST = "198.18.94.10"  # ours; nothing listens there

# What only a report in HTML, mail, the history, a schedule, a certificate, a name or Nmap's XML needs.
LIBRARIES = frozenset(
    {
        "apscheduler", "cryptography", "css_inline", "defusedxml", "dns", "jinja2", "markupsafe", "nmap", "scapy",
        "smtplib", "sqlalchemy", "tomli_w", "xml",
    }
)  # fmt: skip
PAGES = {f"exposure_scan.report.{name}" for name in ("fleet", "fleet_csv", "machine", "mail", "page", "pdf", "plain")}
ROOMS = {"exposure_scan.deliver", "exposure_scan.history.store", "exposure_scan.lab", "exposure_scan.nmap"}
SITES = {"exposure_scan.scope.sites", "exposure_scan.scope.document"}

_RUN = """
import atexit, sys
_, listed, *words = sys.argv
def tell():
    with open(listed, "w") as file:
        file.write("\\n".join(sys.modules))
atexit.register(tell)
sys.argv = ["exposure-scan", *words]
from exposure_scan.__main__ import main
main()
"""


def loaded(tmp_path: Path, *words: str, code: int = 0) -> frozenset[str]:
    """The modules that are loaded when a command ends, and what they are in."""
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
    names = listed.read_text().splitlines()
    return frozenset(names) | {name.partition(".")[0] for name in names}


@pytest.fixture(scope="module")
def host() -> str:
    add_address(HOST)
    return HOST


def test_the_version_is_told_before_any_library_is_loaded(tmp_path: Path) -> None:
    found = loaded(tmp_path, "--version")
    ours = {name for name in found if name.startswith("exposure_scan.")}
    assert ours == {"exposure_scan.__main__"}
    assert not found & {"typer", "rich", "pydantic", "asyncio", "re", "typing", "importlib.metadata"}


def test_the_list_of_commands_is_told_without_a_stage(tmp_path: Path) -> None:
    found = loaded(tmp_path, "--help")
    assert {
        name for name in found if name.startswith("exposure_scan.") and not name.startswith("exposure_scan.cli")
    } == {"exposure_scan.__main__"}
    assert not found & (LIBRARIES | {"rich", "pydantic", "asyncio", "re2", "ssl"})


def test_a_command_explains_itself_without_a_stage(tmp_path: Path) -> None:
    found = loaded(tmp_path, "scan", "--help")
    assert {
        name for name in found if name.startswith("exposure_scan.") and not name.startswith("exposure_scan.cli")
    } == {"exposure_scan.__main__"}
    assert not found & (LIBRARIES | {"rich", "asyncio", "re2", "ssl"})


def test_a_scan_of_an_address_loads_only_what_asks_and_judges_and_prints(tmp_path: Path, host: str) -> None:
    found = loaded(tmp_path, "scan", host, "--authorized-by", "a test", "--present", "a test", "--quiet")
    assert "exposure_scan.transport" in found
    assert not found & LIBRARIES
    assert not found & (PAGES | ROOMS | SITES | {"exposure_scan.evidence"})
    replays = {f"exposure_scan.sweep.{name}" for name in ("held", "imported", "overhearing", "pages", "replayed")}
    assert not found & (replays | {"exposure_scan.protocols.overheard"})


def test_a_table_of_a_saved_scan_is_written_without_sockets_and_templates(tmp_path: Path) -> None:
    found = loaded(tmp_path, "report", str(SAVED), "--format", "csv")
    assert "exposure_scan.report.plain" in found
    assert not found & (LIBRARIES | {"asyncio", "rich", "ssl"})
    assert not found & (PAGES - {"exposure_scan.report.plain"})
    assert not found & (ROOMS | SITES | {"exposure_scan.transport", "exposure_scan.scope", "exposure_scan.evidence"})


def test_a_bundle_is_verified_without_templates_a_database_and_names(tmp_path: Path, host: str) -> None:
    bundle = tmp_path / "evidence.zip"
    loaded(tmp_path, "scan", host, "--authorized-by", "a test", "--present", "a test", "-q", "--evidence", str(bundle))
    found = loaded(tmp_path, "verify", str(bundle))
    assert not found & (LIBRARIES - {"xml"})  # records of Nmap's are in it; their parser is not loaded
    assert not found & (PAGES | ROOMS | SITES | {"rich"})
