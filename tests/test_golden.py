"""The whole JSON and the whole page of three practice sites, byte for byte, so that no change goes unseen.

They are made from the evidence of kept scans and bear their version, times and names: a release, another day or
another machine changes nothing in them. Only what the product says does, and new captures (`make pcaps`).
"""

from __future__ import annotations

import difflib
import time
from pathlib import Path

import accept
import pytest

MOST_LINES = 40
MOST_LETTERS = 160  # of a line


def difference(kept: bytes, now: bytes) -> str:
    """What is otherwise, shortly: of long lines the place where they part."""
    before, after = kept.decode().splitlines(), now.decode().splitlines()
    told = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        low, high = min(lines := before[i1:i2] + after[j1:j2]), max(lines)
        common = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), 0)
        start = max(common - MOST_LETTERS // 4, 0)
        told.append(f"line {i1 + 1}" + (f", from letter {start + 1}" if start else ""))
        told += [f"- {line[start : start + MOST_LETTERS]}" for line in before[i1:i2]]
        told += [f"+ {line[start : start + MOST_LETTERS]}" for line in after[j1:j2]]
    more = len(told) - MOST_LINES
    return "\n".join(told[:MOST_LINES] + ([f"... and {more} more lines"] if more > 0 else []))


@pytest.mark.parametrize("name", accept.NAMES)
def test_a_report_is_as_it_was_accepted(name: str) -> None:
    kept, now = (accept.GOLDEN / name).read_bytes(), accept.made(name)
    if kept != now:
        pytest.fail(
            f"{name} is not as it was accepted. Where it should be so from now on: make accept\n\n"
            + difference(kept, now),
            pytrace=False,
        )


def test_no_other_file_lies_among_the_golden_ones() -> None:
    assert {file.name for file in accept.GOLDEN.iterdir()} == set(accept.NAMES)


def test_another_release_on_another_machine_makes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {name: accept.made(name) for name in accept.NAMES}
    accept.made.cache_clear()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("exposure_scan.__version__", "99.9.9")
        elsewhere.setattr("exposure_scan.sweep.scanning.__version__", "99.9.9")
        elsewhere.setenv("TZ", "Pacific/Auckland")
        time.tzset()
        there = {name: accept.made(name) for name in accept.NAMES}
    time.tzset()
    assert [name for name in accept.NAMES if here[name] != there[name]] == []


def test_accepting_keeps_what_is_as_it_was_and_takes_away_what_is_none(tmp_path: Path) -> None:
    list(accept.accept(tmp_path))
    assert list(accept.accept(tmp_path)) == []
    (tmp_path / "old.html").touch()
    (tmp_path / "silent-site.json").write_text("{}")
    assert list(accept.accept(tmp_path)) == ["gone     old.html", "written  silent-site.json"]


def test_a_difference_is_told_shortly_and_from_where_it_begins() -> None:
    kept = "\n".join(f"line {number} " + "x" * 1000 for number in range(100))
    told = difference(kept.encode(), kept.replace("line 50 " + "x" * 500, "line 50 " + "x" * 500 + "new").encode())
    head, old, new = told.splitlines()
    assert head == "line 51, from letter 469"
    assert (old.strip("- x"), new.strip("+ x")) == ("", "new")
    assert len(new) == MOST_LETTERS + 2
    assert len(difference(kept.encode(), b"").splitlines()) == MOST_LINES + 1
