"""Every example of the README and of --help runs, and shows what the README shows."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
_BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
_OF_THE_CHECKOUT = ("make ",)  # what continuous integration runs
COMMANDS = (
    "scan", "demo", "report", "verify", "practices", "sites check", "fingerprint test",
    "fingerprint learn", "fingerprint check", "sweep", "schedule", "history", "history prune", "changes",
    "evidence", "replay", "import-nmap",
)  # fmt: skip
EXITS = {"scan": 1, "sweep": 1, "replay": 1, "import-nmap": 1}
# What no two scans have alike, in what `evidence` shows.
VARYING = re.compile(
    r"\+\d\.\d{3} s|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC|frames [^a-z]+ of \w+\.pcap|port \d{5}|\d+ packets"
)
BESIDE_THE_SITE = ("scan", "fingerprint learn", "sweep")


BOTH_ENDS = """
set -eu
printf 'synthetic key of the practice site' > vantage.key
mkfifo told
{serve} > told & served=$!
exec 3< told
read -r line <&3
case "$line" in "Ready on "*) ;; *) exit 90 ;; esac
code=0
{check} || code=$?
kill -INT $served
wait $served || exit 91
exit $code
"""


def examples() -> Iterator[tuple[str, str]]:
    """Each command of the README with the output shown below it."""
    for block in _BLOCK.findall(README.read_text("utf-8")):
        for piece in block.split("$ ")[1:]:
            command, _, shown = piece.partition("\n")
            if not command.startswith(_OF_THE_CHECKOUT):
                yield command, shown


def environment() -> dict[str, str]:
    """As a user has it: 80 columns, and not yet in the private network."""
    kept = {key: text for key, text in os.environ.items() if not key.startswith("EXPOSURE_SCAN")}
    return {**kept, "COLUMNS": "80", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"}


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )


def _others_files(place: Path) -> None:
    """What other tools made of the practice site."""
    shutil.copy(ROOT / "tests" / "data" / "nmap" / "exposed-server.xml", place / "nmap.xml")
    shutil.copy(ROOT / "pcaps" / "lab" / "exposed-server.pcap", place / "capture.pcap")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the examples write their files. Not the checkout: it must stay as it is."""
    place = tmp_path_factory.mktemp("reader")
    shutil.copy(ROOT / "exposure_scan" / "lab" / "sites.toml", place / "lab-sites.toml")
    _others_files(place)
    return place


def test_the_readme_starts_with_the_two_commands() -> None:
    commands = [line for block in _BLOCK.findall(README.read_text("utf-8")) for line in block.splitlines()]
    assert [line.split("#")[0].strip() for line in commands[:2]] == ["$ make demo", "$ make test"]


def test_every_example_of_the_readme_shows_what_it_shows_there(folder: Path) -> None:
    wrong = []
    checker = doctest.OutputChecker()
    for command, shown in examples():
        # An exposure_scan folder here would hide the installed package from `python -m`.
        said = shell(command.replace("exposure_scan/lab/sites.toml", "lab-sites.toml"), folder)
        text = said.stdout.replace("lab-sites.toml", "exposure_scan/lab/sites.toml")
        text = "\n".join(line.rstrip() for line in text.splitlines()) + "\n" if text else ""
        if said.returncode not in (0, 1, 3) or said.stderr:
            wrong.append(f"{command}\nexit {said.returncode}: {said.stderr}")
        elif not checker.check_output(VARYING.sub("#", shown), VARYING.sub("#", text), doctest.ELLIPSIS):
            wrong.append(f"$ {command}\n{text}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_at_the_end_of_help_runs(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))  # what one example learns must not teach the others
    shown = shell(f"exposure-scan {command} --help", tmp_path)
    assert shown.returncode == 0
    example = " ".join(shown.stdout.rpartition("Example:")[2].split())
    assert example.startswith(("exposure-scan ", "echo "))
    beside = "python -m exposure_scan.lab -- "
    shutil.copy(ROOT / "exposure_scan" / "lab" / "sites.toml", tmp_path / "sites.toml")
    _others_files(tmp_path)
    if command in ("report", "verify", "evidence"):
        made = (
            "exposure-scan scan 198.51.100.20 --authorized-by 'practice site' --json scan.json --evidence evidence.zip"
        )
        assert shell(beside + made, tmp_path).returncode == 1
    if command == "fingerprint check":
        learnt = shell("exposure-scan fingerprint learn --help", tmp_path).stdout
        made = " ".join(learnt.partition("Example:")[2].split())
        assert shell(f"{beside}{made} --packs .", tmp_path).returncode == 0
    if command in ("history", "history prune", "changes"):
        assert shell(f"{beside}exposure-scan sweep --sites sites.toml --all --no-mail", tmp_path).returncode == 1
    said = shell((beside if command in BESIDE_THE_SITE else "") + example, tmp_path)
    assert said.returncode == EXITS.get(command, 0), said.stderr
    assert said.stderr == ""


def test_the_examples_of_the_vantage_check_run_against_each_other(tmp_path: Path) -> None:
    """On all addresses of a private network of their own: the practice site has taken the ports of this one."""
    ends = {}
    for command in ("serve", "check"):
        shown = shell(f"exposure-scan vantage {command} --help", tmp_path)
        ends[command] = " ".join(shown.stdout.rpartition("Example:")[2].split())
        assert ends[command].startswith("exposure-scan vantage ")
    (tmp_path / "both.sh").write_text(BOTH_ENDS.format(**ends))
    said = shell(f"XDG_STATE_HOME={tmp_path} python -m exposure_scan.lab.namespace -- bash both.sh", tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    assert "ports can leave this network" in said.stdout
    assert (tmp_path / "exposure-scan" / "vantage.json").is_file()
