"""What all tests share. None of them may reach a network: they run where no way leads out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exposure_scan import lab


def pytest_sessionstart() -> None:
    if not lab.inside():
        pytest.exit("The tests run inside a private network only: use `make tests`.", returncode=2)


@pytest.fixture(scope="session")
def practice_site() -> Iterator[None]:
    """The embedded practice site, up until the last test has ended."""
    with lab.running():
        yield
