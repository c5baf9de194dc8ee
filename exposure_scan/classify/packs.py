"""Fingerprint packs: what a partner learnt from units of their own, one TOML file each, loaded from a folder.

A pack is somebody else's word. It has to pass the tests that the scanner's own rows pass, it is never surer
than `CEILING`, it names its origin in every report that used it, and its text is kept with the scan.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from platformdirs import user_data_path
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from exposure_scan.model import Pack, Problem

from .fingerprints import Fingerprint, Known, built_in, faults, parse, read_rows, vocabulary

CEILING = 0.9  # how sure a row of a pack may be; the verified banners of the scanner's own go up to 0.95
_LARGEST = 256 * 1024  # bytes of a pack
_MOST = 200  # packs in a folder


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class _Head:
    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(?:-[a-z0-9]+)*$", max_length=60)]
    origin: Annotated[str, Field(min_length=10, max_length=400)]


def default_folder() -> Path:
    """Where packs are looked for: ``packs`` in the user's data folder (XDG_DATA_HOME)."""
    return Path(user_data_path("exposure-scan")) / "packs"


def pack_name(*words: str) -> str:
    """A pack's name and file name, out of free words: lower case, hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")[:60].strip("-")


def read_pack(text: str, where: str) -> tuple[Pack, tuple[Fingerprint, ...]]:
    """A pack and its rows, tested like the scanner's own.

    Args:
        text: the TOML document.
        where: the file, for what is said of its mistakes.

    Raises:
        Problem: it is no pack, or a row fails a test; one sentence for each.
    """
    try:
        table = parse(text, where)
        raw = table.pop("pack", None)
        if not isinstance(raw, dict):
            raise ValueError(f"{where}: it has no [pack] with name and origin")
        head = TypeAdapter(_Head).validate_python(raw)
        words = replace(vocabulary(), products=())  # a pack may know products that we do not
        rows = read_rows(table, where, words, earlier={}, pack=head.name)
    except ValidationError as error:
        raise Problem(
            *(f"{where}: pack.{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        ) from None
    except ValueError as error:
        raise Problem(str(error)) from None
    found = []
    for row in rows.values():
        wrong = faults(row, built_in().rows, words)
        if row.confidence > CEILING:
            wrong.append(f"a row of a pack is never surer than {CEILING}")
        found += [f"{where}: {row.id}: {sentence}" for sentence in wrong]
    if found:
        raise Problem(*found)
    pack = Pack(name=head.name, origin=head.origin, sha256=hashlib.sha256(text.encode()).hexdigest(), text=text)
    return pack, tuple(rows.values())


def read_packs(folder: Path) -> Known:
    """The scanner's own fingerprints and those of every ``*.toml`` in `folder`, which need not exist.

    Raises:
        Problem: a pack cannot be read, fails a test, or has a name that is taken; all mistakes at once.
    """
    found: list[tuple[str, str]] = []
    problems: list[str] = []
    paths = sorted(folder.glob("*.toml")) if folder.is_dir() else []
    if len(paths) > _MOST:
        raise Problem(f"{folder} holds {len(paths)} packs; at most {_MOST} are read.")
    for path in paths:
        try:
            if path.stat().st_size > _LARGEST:
                problems.append(f"{path}: larger than {_LARGEST // 1024} KB; that is no fingerprint pack.")
                continue
            found.append((str(path), path.read_text("utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{path} cannot be read ({error}); mend it or move it out of the folder.")
    try:
        known = known_with(found)
    except Problem as problem:
        raise Problem(*problems, *problem.sentences) from None
    if problems:
        raise Problem(*problems)
    return known


def known_with(texts: Iterable[tuple[str, str]]) -> Known:
    """The scanner's own fingerprints and those of packs, each given by where it is from and its text.

    Raises:
        Problem: as `read_packs`.
    """
    rows, packs, problems = list(built_in().rows), dict[str, Pack](), list[str]()
    for where, text in texts:
        try:
            pack, own = read_pack(text, where)
        except Problem as problem:
            problems += problem.sentences
            continue
        if pack.name in packs:
            problems.append(f"{where}: there is another pack of the name {pack.name}.")
            continue
        packs[pack.name] = pack
        rows += own
    if problems:
        raise Problem(*problems)
    return Known(tuple(rows), packs) if packs else built_in()
