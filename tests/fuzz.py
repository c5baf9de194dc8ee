"""Damage guided by what it reaches: every target of fuzz_targets.py under atheris. Run by `make fuzz`.

    python tests/fuzz.py [--seconds 60] [--keep] [TARGET ...]

Each target runs in a process of its own, from its seeds and from what pcaps/malformed/ keeps of it. An input that
ends in an exception which is not declared is written down there and named, and the exit code is 1. With --keep,
short inputs that reach lines which no seed and no kept input reaches are kept as well.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from random import Random
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuzz_targets import Target

PATIENCE = 30  # seconds for one input
_LONGEST = 100_000  # bytes of one input
_LONGEST_KEPT, _MOST_KEPT = 3000, 8  # bytes of an input, and inputs of a target
_FAULTS = ("crash-", "timeout-", "oom-")  # as libFuzzer names what it writes down
_PRODUCT = f"{os.sep}exposure_scan{os.sep}"


def main() -> int:
    """One target after the other; 1 where one of them found something."""
    parser = argparse.ArgumentParser(description="Coverage-guided fuzzing of everything that reads.")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--keep", action="store_true", help="keep what reaches further")
    parser.add_argument("--within", type=Path, help=argparse.SUPPRESS)  # one target, in a process of its own
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="by default all")
    words = parser.parse_args()
    os.environ |= {"XDG_STATE_HOME": tempfile.gettempdir(), "XDG_DATA_HOME": tempfile.gettempdir()}
    if words.within is not None:
        explore(words.targets[0], words.within, words.seconds)
    from fuzz_targets import TARGETS

    unknown = set(words.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    found = 0
    for name in words.targets or TARGETS:
        with tempfile.TemporaryDirectory(prefix="exposure-scan-fuzz-") as folder:
            found += _one(TARGETS[name], Path(folder), words.seconds, keep=words.keep)
    return min(found, 1)


def _one(target: Target, folder: Path, seconds: int, *, keep: bool) -> int:
    """Fuzz one target; 1 where it found something, which is written to the corpus."""
    for number, seed in enumerate([*target.seeds(), *(path.read_bytes() for path in target.kept())]):
        (folder / f"seed-{number}").write_bytes(seed)
    (folder / "found").mkdir()
    command = [sys.executable, __file__, "--within", str(folder), "--seconds", str(seconds), target.name]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    last = next((line for line in reversed(done.stdout.splitlines()) if "cov:" in line), "")
    print(f"{target.name}: {last.strip() or 'nothing was run'}", flush=True)  # noqa: T201
    faults = [path for path in (folder / "found").iterdir() if path.name.startswith(_FAULTS)]
    for crash in faults:
        print(done.stdout[-6000:], f"Written: {_kept(target, crash.read_bytes())}", sep="\n")  # noqa: T201
    if done.returncode and not faults:
        print(done.stdout[-3000:])  # noqa: T201
    elif keep:
        _keep(target, folder)
    return int(done.returncode != 0)


def _kept(target: Target, data: bytes) -> Path:
    from fuzz_targets import CORPUS

    path = CORPUS / target.name / sha256(data).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# --- what reaches further ---------------------------------------------------------------------------------


def _keep(target: Target, folder: Path) -> None:
    """Short inputs first: those that reach lines of ours which nothing that is there already reaches."""
    known = [*target.seeds(), *(path.read_bytes() for path in target.kept())]
    reached = set[tuple[str, int]]().union(*(lines(target, data) for data in known))
    new = (path.read_bytes() for path in folder.iterdir() if path.is_file() and not path.name.startswith("seed-"))
    short = sorted({data for data in new if len(data) <= _LONGEST_KEPT}, key=lambda data: (len(data), data))
    room = _MOST_KEPT - len(target.kept())
    for data in short:
        if room > 0 and (more := lines(target, data) - reached):
            reached |= more
            room -= 1
            print(f"Kept for {len(more)} lines: {_kept(target, data)}")  # noqa: T201


def lines(target: Target, data: bytes) -> set[tuple[str, int]]:
    """The lines of the product that are run for an input."""
    seen: set[tuple[str, int]] = set()

    def local(frame: FrameType, _event: str, _arg: Any) -> Any:
        seen.add((frame.f_code.co_filename, frame.f_lineno))
        return local

    sys.settrace(lambda frame, _event, _arg: local if _PRODUCT in frame.f_code.co_filename else None)
    try:
        target.read(data)
    finally:
        sys.settrace(None)
    return seen


# --- one target, in a process of its own ----------------------------------------------------------------------


def explore(name: str, folder: Path, seconds: int) -> None:
    """Run libFuzzer on a target; it ends the process. New inputs go to `folder`, crashes to found/ in it."""
    import atheris

    with atheris.instrument_imports(include=["exposure_scan"]):
        from fuzz_targets import TARGETS
    target = TARGETS[name]
    seeds = target.seeds()
    warnings.simplefilter("error")

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        chance = Random(seed)
        if chance.random() < 0.3:
            return bytes(atheris.Mutate(data, most))
        return target.damage(chance, [*[data] * 7, *_some(chance, seeds)])[:most]

    options = [f"-max_total_time={seconds}", f"-timeout={PATIENCE}", f"-max_len={_LONGEST}", "-rss_limit_mb=2048"]
    options += [f"-artifact_prefix={folder / 'found'}{os.sep}", "-print_final_stats=0"]
    atheris.Setup([sys.argv[0], *options, str(folder)], target.read, custom_mutator=mutate)
    atheris.Fuzz()


def _some(chance: Random, seeds: Iterable[bytes]) -> list[bytes]:
    every = list(seeds)
    return [chance.choice(every) for _ in range(2)]


if __name__ == "__main__":
    sys.exit(main())
