"""What may be in wheel and source archive, and what must be: ``python tests/package_contents.py FILE...``."""

from __future__ import annotations

import fnmatch
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

_INFO = "exposure_scan-*.dist-info"
WHEEL_MAY = (
    "exposure_scan/*.py", "exposure_scan/py.typed", "exposure_scan/lab/sites.toml", "exposure_scan/data/*.toml",
    "exposure_scan/templates/*.j2",
    *(f"{_INFO}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")),
)  # fmt: skip
WHEEL_MUST = (*WHEEL_MAY, "exposure_scan/data/fingerprints/*.toml", "exposure_scan/data/practices/*.toml")
SOURCE_MAY = (
    "exposure_scan/*.py", "exposure_scan/py.typed", "exposure_scan/lab/sites.toml", "exposure_scan/data/*.toml",
    "templates/*.j2", "docs/*.md", "docs/*.py", "docs/*.png", "docs/*.svg", "docs/*.json",
    "bench/*.py", "bench/*.c", "bench/*.md", "bench/*.svg",
    "tests/*.py", "tests/*.sh", "tests/data/*", "tests/golden/*", "pcaps/*",
    *("README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE", "Makefile", "pyproject.toml", "PKG-INFO", ".gitignore"),
    *("requirements-build.lock", "requirements-ci.lock"),
)  # fmt: skip
SOURCE_MUST = tuple(pattern for pattern in SOURCE_MAY if pattern not in ("bench/*.md", "bench/*.svg", ".gitignore"))
# Never, wherever it lies: caches, environments, keys, what somebody's scan left behind.
NEVER = (
    "*.pyc", "*__pycache__*", "*.egg-info*", ".venv*", "*/.venv*", ".servers*", "*.key", "*.pem", "*.sqlite3*", "*.env",
    "*_cache/*", "*.hypothesis*", "demo/*", "dist/*", "build/*", "*~", "*.orig", "*.swp",
)  # fmt: skip


def names(archive: Path) -> list[str]:
    """The files in a wheel, or in a source archive without the folder that it puts everything into."""
    if archive.suffix == ".whl":
        return zipfile.ZipFile(archive).namelist()
    with tarfile.open(archive) as tar:
        return [member.name.partition("/")[2] for member in tar.getmembers() if not member.isdir()]


def wrong(found: Iterable[str], may: Iterable[str], must: Iterable[str]) -> list[str]:
    """Sentences on each file that may not be there and each that is missing."""
    found, may = list(found), tuple(may)

    def fits(name: str, patterns: Iterable[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    surplus = [f"{name} has no business there" for name in found if not fits(name, may) or fits(name, NEVER)]
    return surplus + [f"nothing like {pattern} is there" for pattern in must if not fnmatch.filter(found, pattern)]


def check(archive: Path) -> list[str]:
    """What is wrong with the contents of one archive."""
    if archive.suffix == ".whl":
        return wrong(names(archive), WHEEL_MAY, WHEEL_MUST)
    return wrong(names(archive), SOURCE_MAY, SOURCE_MUST)


def main() -> None:
    """Tell how many files each archive has.

    Raises:
        SystemExit: one has a file too many or too few.
    """
    for archive in map(Path, sys.argv[1:]):
        if mistakes := check(archive):
            raise SystemExit("\n".join(f"{archive.name}: {mistake}" for mistake in mistakes))
        print(f"package-check: {archive.name} has {len(names(archive))} files, all of them meant to be there")  # noqa: T201


if __name__ == "__main__":
    main()
