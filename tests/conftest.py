"""What all tests share. None of them may reach a network: they run where no way leads out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from exposure_scan import lab


def pytest_sessionstart() -> None:
    if not lab.inside():
        pytest.exit("The tests run inside a private network only: use `make tests`.", returncode=2)


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a user has checked of this network, and the packs that a user has, must not change a test."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    os.environ["XDG_DATA_HOME"] = str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def practice_site() -> Iterator[None]:
    """The embedded practice site, up until the last test has ended."""
    with lab.running():
        yield


_FIGURES: Counter[str] = Counter()


@pytest.fixture(scope="session")
def figure() -> Callable[[str, int], None]:
    """Add to a figure that is printed after the tests: how many inputs, how many bytes."""

    def add(name: str, number: int) -> None:
        _FIGURES[name] += number

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _FIGURES:
        terminalreporter.section("figures")
        for name, number in sorted(_FIGURES.items()):
            terminalreporter.write_line(f"{name}: {number:,}")
