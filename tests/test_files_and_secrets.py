"""All that the commands leave behind is its owner's alone, and in its place."""

from __future__ import annotations

import asyncio
import stat
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import CONSENT, EXPOSED, ONE_SITE, command
from sites_files import read

from exposure_scan import files, lab, scope
from exposure_scan.history.store import open_store
from exposure_scan.lab.network import add_address
from exposure_scan.model import Problem
from exposure_scan.model.text import file_name
from exposure_scan.sweep import nightly

pytestmark = pytest.mark.usefixtures("practice_site")


def modes(folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """The modes of the files and of the folders below this one."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*")}
    kinds = (Path.is_file, Path.is_dir)
    first, second = (
        {name: stat.S_IMODE(path.lstat().st_mode) for name, path in found.items() if kind(path)} for kind in kinds
    )
    return first, second


# --- who may read it ------------------------------------------------------------------------------


def test_everything_that_is_left_behind_is_its_owner_s_alone_with_no_umask_at_all(tmp_path: Path) -> None:
    files.write_file(tmp_path / "sites.toml", lab.sites_file().read_text())
    steps = [
        (("sweep", "--sites", "sites.toml", "--all", "--dry-run", "--out", "a/b/reports"), 1),
        (("scan", EXPOSED, *CONSENT, "--json", "scan.json", "--html", "own.html", "--evidence", "evidence.zip"), 1),
        (("report", "scan.json", "--format", "csv", "--out", "scan.csv"), 0),
        (("evidence", "evidence.zip", "--finding", "sip.not-reachable", "--pcap", "sip.pcap"), 0),
        (("evidence", "evidence.zip", "--customer-copy", "copy.zip"), 0),
        (("fingerprint", "learn", "198.51.100.30", "--class", "px", "--model", "synthetic", *CONSENT), 0),
    ]
    for words, code in steps:
        done = command(tmp_path, *words)
        assert done.returncode == code, done.stderr
    own, folders = modes(tmp_path)
    assert {name: mode for name, mode in own.items() if mode != 0o600} == {}
    assert {name: mode for name, mode in folders.items() if mode != 0o700} == {}
    for wanted in (
        "a/b/reports/index.html",
        "a/b/reports/fleet.csv",
        "a/b/reports/exposed-server/evidence.zip",
        "xdg_state_home/exposure-scan/history.sqlite3",
        "scan.csv",
        "sip.pcap",
        "copy.zip",
    ):
        assert wanted in own
    assert any(name.startswith("a/b/reports/outbox/") for name in own)
    assert any(name.endswith(".lock") for name in own)
    assert any(name.startswith("xdg_data_home/exposure-scan/packs/") for name in own)


def test_a_folder_of_the_user_keeps_its_mode_and_what_is_inside_is_closed(tmp_path: Path) -> None:
    out = tmp_path / "reports"
    (out / "exposed-server").mkdir(parents=True)
    for folder in (out, out / "exposed-server"):
        folder.chmod(0o755)
    files.write_file(tmp_path / "sites.toml", ONE_SITE)
    assert command(tmp_path, "sweep", "--sites", "sites.toml", "--all", "--out", "reports", umask=0o022).returncode == 1
    own, folders = modes(out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o755
    assert folders == {"exposed-server": 0o700}
    assert set(own.values()) == {0o600}
    out.chmod(0o777)
    refused = command(tmp_path, "sweep", "--sites", "sites.toml", "--all", "--out", "reports")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Everybody may change the folder reports: chmod o-w reports" in refused.stderr


@pytest.mark.parametrize("option", ["--html", "--json", "--evidence"])
def test_an_output_that_the_user_names_is_not_written_through_a_link_either(tmp_path: Path, option: str) -> None:
    (tmp_path / "victim").write_text("of somebody else")
    (tmp_path / "out").symlink_to("victim")
    done = command(tmp_path, "scan", EXPOSED, *CONSENT, option, "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is a link or a device" in done.stderr
    assert (tmp_path / "victim").read_text() == "of somebody else"


# --- in its place ---------------------------------------------------------------------------------

PIECES = st.one_of(
    st.text(max_size=12), st.sampled_from(["..", "/", "\\", ".", "~", "%2e", "\u2215", "CON", "a", "A", " "])
)
NAMES = st.lists(PIECES, min_size=1, max_size=4).map("".join)


def two_sites(folder: Path, *names: str) -> scope.SitesFile:
    row = '[[site]]\nname = {}\ntargets = ["198.51.100.12"]\nauthorization = {{ by = "Synthetic owner" }}\n'
    return read(folder, "".join(row.format(_toml(name)) for name in names).encode("utf-8", "surrogatepass"))


def _toml(text: str) -> str:
    return '"' + "".join(f"\\U{ord(char):08x}" if not char.isalnum() else char for char in text) + '"'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("names")


@settings(max_examples=300, deadline=None)
@given(one=NAMES, two=NAMES)
def test_any_name_of_a_site_is_a_folder_inside_the_reports_and_two_sites_never_share_one(
    folder: Path, one: str, two: str
) -> None:
    try:
        orders = two_sites(folder, one, two).orders
    except Problem:
        return
    places = [folder / "out" / file_name(order.site.name) for order in orders]
    assert len({str(place).casefold() for place in places}) == 2
    for place in places:
        assert place.parent == folder / "out"
        assert place.resolve().parent == (folder / "out").resolve()
        assert not place.name.startswith(".")
        files.make_own_folder(place)


def test_hostile_names_of_sites_stay_inside_the_reports_when_they_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["../../escaped", "/etc/passwd", "..", "a/../../b", "~root", "C:\\x", "-rf", "a%2fb"]
    sites = []
    for number, name in enumerate(names, 1):
        add_address(f"198.18.97.{number}")
        with suppress(Problem):
            sites.append(scope.order_from_words([f"198.18.97.{number}"], authorized_by="a test", name=name))
    assert len(sites) == len(names) - 1, "two dots are no name"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    with open_store(f"sqlite:///{tmp_path / 'history.sqlite3'}") as store:
        found = asyncio.run(nightly.sweep(sites, store, nightly.Settings(out, everything=True)))
    assert [one.why for one in found.ended if one.verdict is None] == []
    assert len(list(out.iterdir())) == len(sites)
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {"deep", "history.sqlite3"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
