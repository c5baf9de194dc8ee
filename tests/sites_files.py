"""Sites files made by hand, and how tests read them. Everybody in them is synthetic."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from exposure_scan.model import Problem
from exposure_scan.scope import Order, SitesFile, read_sites_file

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
PRACTICES = frozenset({"password.admin", "password.users", "server.stealth"})
HEAD = '[[site]]\nname = "Synthetic Dental"\ntargets = ["198.51.100.12"]\n'
CONSENT = '[site.authorization]\nby = "Synthetic owner"\n'


def read(folder: Path, text: str | bytes) -> SitesFile:
    path = folder / "sites.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_sites_file(path, practices=PRACTICES, clock=lambda: NOW)


def only(folder: Path, text: str) -> Order:
    (order,) = read(folder, text).orders
    return order


def mistakes(folder: Path, text: str | bytes) -> list[str]:
    """The sentences without the file's name, which each of them begins with."""
    with pytest.raises(Problem) as caught:
        read(folder, text)
    start = f"{folder / 'sites.toml'}: "
    assert all(sentence.startswith(start) and sentence.isprintable() for sentence in caught.value.sentences)
    assert str(caught.value) == "\n".join(caught.value.sentences)
    return [sentence.removeprefix(start) for sentence in caught.value.sentences]


def of_dental(folder: Path, text: str) -> list[str]:
    """The mistakes of the one site without its name, which each of them ends with."""
    end = ' (site "Synthetic Dental").'
    told = mistakes(folder, text)
    assert all(sentence.endswith(end) for sentence in told)
    return [sentence.removesuffix(end) for sentence in told]
