"""How a history is opened: private, brought up from older ones, and left alone where it is none of ours."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from kept_scans import NOW, PLAIN, files_of, scan_of, turns, url
from sqlalchemy import create_engine, insert
from sqlalchemy.engine import make_url
from sqlalchemy.schema import CreateTable

from exposure_scan import history
from exposure_scan.history import store as stores
from exposure_scan.history import tables
from exposure_scan.history.store import Letter, Store, open_store
from exposure_scan.model import Problem, Scan, Status
from exposure_scan.report import load_scan


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with open_store(url(path)) as opened:
        yield opened


# --- private --------------------------------------------------------------------------------------


def test_the_files_are_their_owner_s_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        with open_store(url(path.parent / "deeper" / "h.sqlite3")) as store:
            store.add(PLAIN, now=NOW)
            files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (path.parent / "deeper").iterdir()}
    finally:
        os.umask(before)
    assert files == {"h.sqlite3": 0o600, "h.sqlite3-wal": 0o600, "h.sqlite3-shm": 0o600}
    for folder in (path.parent, path.parent / "deeper"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_history_that_others_could_read_is_closed_to_them_and_its_folder_is_left_alone(path: Path) -> None:
    with open_store(url(path)):
        pass
    path.chmod(0o644)
    path.parent.chmod(0o755)
    with open_store(url(path)) as store:
        store.add(PLAIN, now=NOW)
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


def test_sqlite_is_set_to_lose_nothing(store: Store) -> None:
    with store._database.writing() as db:
        words = ("journal_mode", "synchronous", "foreign_keys")
        assert [db.exec_driver_sql(f"PRAGMA {word}").scalar() for word in words] == ["wal", 2, 1]


# --- older, newer, damaged, foreign ---------------------------------------------------------------


def of_first_version(path: Path, scans: Sequence[Scan]) -> None:
    """A database as the first version made it."""
    path.parent.mkdir(exist_ok=True)
    engine = create_engine(url(path))
    with engine.begin() as db:
        for step in tables.STEPS[:1]:
            step(db)
        db.execute(insert(tables.VERSION).values(version=1))
        db.execute(insert(tables.SITES).values(id=1, name="silent-site"))
        for number, scan in enumerate(scans, 1):
            look = history.look_of(scan)
            row = stores._row(scan, look, None)
            db.execute(insert(tables.SCANS).values(id=number, site=1, **row))
            stores._add_parts(db, number, scan, look, {})
    engine.dispose()


def test_an_older_database_comes_up_with_its_data(path: Path) -> None:
    rows = [(Status.NOT_MET, Status.MET), (Status.NOT_MET, None), (Status.CANNOT_TELL, Status.MET)]
    scans = [scan_of(number, *row) for number, row in enumerate(rows)]
    of_first_version(path, scans)
    with open_store(url(path)) as store:
        assert list(store.looks("silent-site")) == list(map(history.look_of, scans))
        assert [load_scan(store.document(scan.id)) for scan in scans] == scans
        assert store.left_of(store.begin_run(["silent-site"], NOW)[0]) == ("silent-site",)
        new = scan_of(3, Status.NOT_MET, Status.NOT_MET)
        expected = turns(new, list(map(history.look_of, scans)))
        for most in (1, 2, 3):
            assert turns(new, store.looks("silent-site", most=most)) == expected
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT version FROM exposure_scan").fetchall() == [(len(tables.STEPS),)]


@pytest.mark.parametrize("failing", range(1, len(tables.STEPS)))
def test_a_step_that_fails_leaves_no_half_of_it(path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    of_first_version(path, [scan_of(0, Status.MET)])

    def step(connection: object) -> None:
        tables.STEPS[failing](connection)  # type: ignore[arg-type]
        raise RuntimeError("on the way")

    steps = (*tables.STEPS[:failing], step)
    monkeypatch.setattr("exposure_scan.history.opening.STEPS", steps)
    with pytest.raises(RuntimeError), open_store(url(path)):
        pass
    with sqlite3.connect(path) as db:
        found = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert db.execute("SELECT version FROM exposure_scan").fetchall() == [(failing,)]
    assert ("courses" in found, "runs" in found) == (False, failing > 1)
    monkeypatch.undo()
    with open_store(url(path)) as store:
        assert len(store.looks("silent-site")) == 1


def filled(path: Path) -> None:
    with open_store(url(path)) as store:
        for number in range(6):
            made = scan_of(number, Status.MET, Status.NOT_MET)
            store.add(made, now=NOW, letters=[Letter("a@customer.example", os.urandom(3000))])


def refused(path: Path) -> str:
    """The sentence; and that not a byte was changed, and nothing was put beside the file."""
    before = files_of(path.parent)
    with pytest.raises(Problem) as found, open_store(url(path)):
        pass
    assert files_of(path.parent) == before
    (sentence,) = found.value.sentences
    assert str(path) in sentence
    return sentence


def test_a_newer_one_is_left_as_it_is(path: Path) -> None:
    filled(path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE exposure_scan SET version = 99")
    db.close()
    assert "newer exposure-scan (version 99" in refused(path)


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_one_of_another_program_is_left_as_it_is(path: Path, mode: str) -> None:
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA journal_mode = {mode}")
    db.execute("CREATE TABLE customers (name)")
    db.close()
    assert "another program" in refused(path)


def test_one_that_lacks_a_table_is_left_as_it_is(path: Path) -> None:
    filled(path)
    db = sqlite3.connect(path)
    db.execute("DROP TABLE courses")
    db.close()
    assert "no table courses" in refused(path)


@pytest.mark.parametrize(
    "content", [b"# my notes\n" * 99, b"x", b"x" * 511, b"SQLite format 2\0" + bytes(5000), bytes(8192)]
)
def test_what_is_no_database_is_left_as_it_is(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    assert "no SQLite database, or a damaged one" in refused(path)


def all_of(store: Store) -> object:
    """Everything that a history tells."""
    kept = store.scans_of("silent-site")
    documents = [store.document(one.scan) for one in kept]
    mail = [piece.message for piece in store.outbox.pieces("queued")]
    return kept, documents, mail, store.looks("silent-site"), store.looks("silent-site", most=1)


@pytest.mark.parametrize("size", [1, 40, 900])
@pytest.mark.parametrize("filling", [b"\xff", b"\0", b"synthetic"])
def test_one_whose_bytes_were_overwritten_is_refused_or_tells_what_was_written(
    path: Path, size: int, filling: bytes
) -> None:
    """Room that no row uses may hold anything: nothing is lost then."""
    filled(path)
    with open_store(url(path)) as store:
        written = all_of(store)
    data = path.read_bytes()
    refusals = 0
    for part in range(60):
        at = 100 + (len(data) - 1000) * part // 60
        path.write_bytes(data[:at] + (filling * size)[:size] + data[at + size :])
        before = files_of(path.parent)
        try:
            with open_store(url(path)) as store:
                assert all_of(store) == written
        except Problem as problem:
            sentence = str(problem)
        else:
            continue
        refusals += 1
        assert str(path) in sentence
        assert "left as it is" not in sentence or files_of(path.parent) == before
    assert refusals > 10


@pytest.mark.parametrize("part", range(1, 10))
def test_one_with_a_page_overwritten_is_left_as_it_is(path: Path, part: int) -> None:
    filled(path)
    data = path.read_bytes()
    at = len(data) * part // 10 // 4096 * 4096
    path.write_bytes(data[:at] + bytes(range(256)) * 16 + data[at + 4096 :])
    assert "damaged" in refused(path)


@pytest.mark.parametrize("share", [0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_one_that_was_cut_off_is_left_as_it_is(path: Path, share: float) -> None:
    filled(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused(path)


@pytest.mark.parametrize("where", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true", "x", "nodb://a/b"])
def test_a_url_that_names_no_place_is_one_sentence(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Problem) as found, open_store(where):
        pass
    assert len(found.value.sentences) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_password_is_not_told(tmp_path: Path) -> None:
    for where in ("nodb://user:secret@198.51.100.7/x", "user:secret@198.51.100.7/x"):
        with pytest.raises(Problem) as found, open_store(where):
            pass
        assert "secret" not in str(found.value)


def test_a_folder_in_the_place_of_the_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="is no file"), open_store(url(tmp_path)):
        pass


@pytest.mark.parametrize("which", ["file", "folder", "new"])
def test_what_may_not_be_written_is_one_sentence(path: Path, which: str) -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv to take that away")
    if which != "new":
        filled(path)
    path.parent.mkdir(exist_ok=True)
    if which == "file":
        path.chmod(0o400)
    else:
        path.parent.chmod(0o500)
    code = f"from exposure_scan.history.store import open_store\nwith open_store({url(path)!r}): pass"
    words = [sys.executable, "-c", code]
    if os.geteuid() == 0:
        words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all", *words]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    path.parent.chmod(0o700)
    assert ended.returncode == 1
    said = ended.stderr.splitlines()[-1]
    assert said.startswith("exposure_scan.model.words.Problem: The ")
    assert "choose another with --db" in said


# --- other databases ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mysql", "mssql", "oracle"])
def test_every_dialect_can_make_the_tables(name: str) -> None:
    dialect = make_url(f"{name}://").get_dialect()()
    made = {table.name: str(CreateTable(table).compile(dialect=dialect)) for table in tables.METADATA.sorted_tables}
    assert len(made) == 9
    if name == "mysql":  # its plain BLOB ends at 64 KiB
        for table, column in (("scans", "document"), ("mail", "message")):
            assert f"{column} BLOB(4294967295)" in made[table]
