"""What is old leaves the history, with its files, and nothing else does."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import samples
from kept_scans import DAY, NOW, scan_of, url

from exposure_scan.history.pruning import Pruned
from exposure_scan.history.store import Store, open_store
from exposure_scan.model import Status


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with open_store(url(path)) as opened:
        yield opened


def kept_with_files(store: Store, number: int, folder: Path, **files: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    sums = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
    store.add(scan_of(number, Status.MET), now=NOW, folder=folder, files=sums)


def test_only_files_that_are_known_and_that_no_scan_names_are_removed(store: Store, tmp_path: Path) -> None:
    old, new, gone = tmp_path / "old", tmp_path / "new", tmp_path / "gone"
    kept_with_files(store, 0, old, report="a", changed="b", linked="c", shared="d")
    kept_with_files(store, 1, gone, report="a")
    kept_with_files(store, 2, tmp_path / "emptied", report="a")
    kept_with_files(store, 3, new, report="e")
    kept_with_files(store, 4, old, shared="d")
    (old / "changed").write_text("by the operator")
    (old / "notes").write_text("of the operator")
    (tmp_path / "elsewhere").write_text("c")
    (old / "linked").unlink()
    (old / "linked").symlink_to(tmp_path / "elsewhere")
    shutil.rmtree(gone)
    done = store.prune(samples.AT + DAY * 3)
    assert (done.scans, done.left) == (3, ())
    assert done.files == (tmp_path / "emptied" / "report", old / "report")
    assert sorted(path.name for path in old.iterdir()) == ["changed", "linked", "notes", "shared"]
    assert (tmp_path / "elsewhere").read_text() == "c"
    assert not (tmp_path / "emptied").exists()
    assert (new / "report").read_text() == "e"
    assert [kept.scan for kept in store.scans_of("silent-site")] == ["silent-site-4", "silent-site-3"]


def test_a_name_that_leads_out_of_the_folder_is_not_followed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("a")
    folder = tmp_path / "site"
    folder.mkdir()
    sums = {name: hashlib.sha256(b"a").hexdigest() for name in ("../mine", str(tmp_path / "mine"), "..", ".", "")}
    store.add(scan_of(0), now=NOW, folder=folder, files=sums)
    store.add(scan_of(1), now=NOW)
    assert store.prune(samples.AT + DAY) == Pruned(1, (), ())
    assert (tmp_path / "mine").exists()


def test_a_file_that_cannot_be_removed_keeps_its_scan(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_with_files(store, 0, tmp_path / "stuck", report="a")
    kept_with_files(store, 1, tmp_path / "free", report="a")
    store.add(scan_of(2), now=NOW)
    real = os.unlink

    def unlink(name: str, *, dir_fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{dir_fd}").endswith("stuck"):
            raise PermissionError(13, "Permission denied")
        real(name, dir_fd=dir_fd)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", unlink)
        done = store.prune(samples.AT + DAY * 2)
    assert done == Pruned(1, (tmp_path / "free" / "report",), (tmp_path / "stuck" / "report",))
    assert store.prune(samples.AT + DAY * 2).files == (tmp_path / "stuck" / "report",)


def test_the_last_scan_of_each_site_stays_however_old_it_is(store: Store) -> None:
    for site in ("a", "b"):
        for number in (0, 2, 1):
            store.add(scan_of(number, Status.MET, site=site), now=NOW)
    assert store.prune(samples.AT + DAY * 1000).scans == 4
    assert {kept.scan for kept in store.last_scans().values()} == {"a-2", "b-2"}


def test_what_was_pruned_is_not_in_the_file_any_more(store: Store, path: Path) -> None:
    word = "a-word-that-stands-nowhere-else"
    made = scan_of(0, Status.MET)
    store.add(made, now=NOW, folder=Path("/srv") / word)
    store.add(scan_of(1, Status.MET), now=NOW)
    store.prune(samples.AT + DAY)
    with store._database.reading() as db:
        assert db.exec_driver_sql("PRAGMA freelist_count").scalar() == 0
    store.close()
    assert not any(word.encode() in file.read_bytes() for file in path.parent.iterdir())


def test_a_run_of_long_ago_goes_and_one_that_was_stopped_stays(store: Store) -> None:
    run, _ = store.begin_run(["silent-site"], samples.AT)
    store.add(scan_of(0), now=NOW, run=run)
    store.add(scan_of(1), now=NOW)
    store.end_run(run, samples.AT)
    stopped, _ = store.begin_run(["silent-site"], samples.AT)
    store.prune(samples.AT + DAY)
    assert store.results_of(run) == ()
    assert store.left_of(stopped) == ("silent-site",)
