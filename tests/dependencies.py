"""What pyproject.toml wants, what that brings along in this environment, and what the lock files name.

``python tests/dependencies.py`` prints the lock's lines of what the wheel alone brings along, for pip.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
BUILD_LOCK = ROOT / "requirements-build.lock"
CI_LOCK = ROOT / "requirements-ci.lock"
PROJECT = "exposure-scan"


class Pin(NamedTuple):
    """One entry of a lock file."""

    requirement: Requirement
    hashes: tuple[str, ...]
    text: str


def pyproject() -> dict[str, list[Requirement]]:
    """Each extra's requirements; those of the wheel itself under the empty name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    of = {"": project["dependencies"], **project["optional-dependencies"]}
    return {extra: [Requirement(text) for text in texts] for extra, texts in of.items()}


def direct(extras: Sequence[str]) -> Iterator[Requirement]:
    """What pyproject.toml names for these extras, an extra that names other extras followed."""
    of = pyproject()
    for extra in extras:
        for requirement in of[extra]:
            if canonicalize_name(requirement.name) == PROJECT:
                yield from direct(sorted(requirement.extras))
            else:
                yield requirement


def closure(*extras: str) -> dict[str, SpecifierSet]:
    """Every distribution that the wheel and these extras bring along here, with the versions that are allowed.

    Raises:
        importlib.metadata.PackageNotFoundError: one of them is not installed.
    """
    found: dict[str, SpecifierSet] = {}
    asked: set[tuple[str, frozenset[str]]] = set()
    todo = list(direct(["", *extras]))
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        found[name] = found.get(name, SpecifierSet()) & requirement.specifier
        if (name, frozenset(requirement.extras)) in asked:
            continue
        asked.add((name, frozenset(requirement.extras)))
        for text in distribution(name).requires or ():
            brought = Requirement(text)
            chosen = ["", *requirement.extras]
            if brought.marker is None or any(brought.marker.evaluate({"extra": extra}) for extra in chosen):
                todo.append(brought)
    return dict(sorted(found.items()))


def locked(lock: Path) -> Mapping[str, Pin]:
    """The entries of a lock file by name."""
    pins: dict[str, Pin] = {}
    for text in lock.read_text("utf-8").replace("\\\n", " ").splitlines():
        said = text.strip()
        if said and not said.startswith("#"):
            words, *hashes = said.split(" --hash=")
            requirement = Requirement(words)
            pins[canonicalize_name(requirement.name)] = Pin(requirement, tuple(word.strip() for word in hashes), said)
    return pins


if __name__ == "__main__":
    of_the_lock = locked(CI_LOCK)
    for wanted in closure():
        print(of_the_lock[wanted].text)  # noqa: T201
