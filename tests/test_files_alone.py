"""Only one module writes files, and whoever kills it, fills the disk or plants a link gets the old file or the new."""

from __future__ import annotations

import ast
import errno
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from exposure_scan import files
from exposure_scan.model import Problem

PACKAGE = Path(__file__).parent.parent / "exposure_scan"
WRITER = "files.py"
EXCEPTIONS = {
    "lab/": "the practice site: settings of its own network, and keys in a temporary folder for the ssl module",
    "history/opening.py": "SQLite writes its own file, which `files` has made",
    "history/pruning.py": "removes what it knows to be ours, by its sum; writes nothing",
}
WRITES = {"write_text", "write_bytes", "touch", "mkdir", "symlink_to", "hardlink_to", "rename", "unlink", "chmod"}
WRITES |= {"rmdir", "FileHandler", "WatchedFileHandler", "RotatingFileHandler", "create_engine"}
OF_OS = {"chmod", "fchmod", "chown", "link", "makedirs", "mkdir", "mkfifo", "mknod", "remove", "removedirs", "rename"}
OF_OS |= {"renames", "replace", "rmdir", "symlink", "truncate", "unlink"}
MODULES = {"tempfile", "fileinput", "shelve", "dbm"}


def writes_files(source: str) -> list[str]:
    """What in a module can write, make or remove a file, with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            found += [f"{node.lineno}: imports {name}" for name in names if name.partition(".")[0] in MODULES]
            if isinstance(node, ast.ImportFrom) and node.module in ("os", "shutil"):
                found += [f"{node.lineno}: {one.name}" for one in node.names if one.name in OF_OS | {"copy", "move"}]
        elif isinstance(node, ast.Call) and (why := _writes(node)):
            found.append(f"{node.lineno}: {why}")
    return found


def _writes(call: ast.Call) -> str:
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    words = [ast.unparse(word) for word in (*call.args, *(keyword.value for keyword in call.keywords))]
    if name == "os.open":
        made = re.search(r"O_(CREAT|WRONLY|RDWR|APPEND|TRUNC|TMPFILE)", " ".join(words[1:]))
        return name if made and words[0] != "os.devnull" else ""
    if last in ("open", "fdopen", "ZipFile", "TarFile"):
        mode = _mode(call, 0 if last == "open" and name != "open" else 1)
        in_memory = last == "ZipFile" and words[:1] == ["whole"]  # the bundle is a BytesIO until it is written
        return name if set(mode) & set("wax+") and not in_memory else ""
    if name.startswith(("shutil.", "sqlite3.connect")) and last != "which":
        return name
    return name if (name.startswith("os.") and last in OF_OS) or (last in WRITES and not name.startswith("os.")) else ""


def _mode(call: ast.Call, place: int) -> str:
    """How a file is opened, where it is said; "+" where nobody can tell."""
    told = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] or call.args[place : place + 1]
    if told and isinstance(told[0], ast.Constant):
        text = str(told[0].value)
        return text if re.fullmatch("[rwaxbt+]{1,3}", text) else ""  # a method of something else
    return "+" if told and place else ""


def modules() -> Iterator[tuple[str, list[str]]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        yield str(path.relative_to(PACKAGE)), writes_files(text)


def test_no_module_but_one_writes_a_file() -> None:
    wrong = {
        name: found for name, found in modules() if found and name != WRITER and not name.startswith(tuple(EXCEPTIONS))
    }
    assert wrong == {}


def test_the_writer_and_every_exception_do_what_they_are_named_for() -> None:
    found = dict(modules())
    assert found[WRITER]
    for exception in EXCEPTIONS:
        assert any(what for name, what in found.items() if name.startswith(exception)), exception
    assert all("create_engine" in what or "sqlite3" in what for what in found["history/opening.py"])
    assert all(re.search("unlink|rmdir", what) for what in found["history/pruning.py"])


@pytest.mark.parametrize(
    "source",
    [
        "open('x', 'w')", "open('x', mode='ab')", "path.open('r+b')", "path.write_text('x')", "path.write_bytes(b'')",
        "import os\nos.open('x', os.O_CREAT | os.O_RDWR)", "import os\nos.makedirs('x')", "path.mkdir(0o700)",
        "import os\nos.replace('x', 'y')", "from os import rename", "import shutil\nshutil.copy('x', 'y')",
        "import tempfile", "from tempfile import mkstemp", "import sqlite3\nsqlite3.connect('x')", "path.chmod(0o644)",
        "import zipfile\nzipfile.ZipFile('x', 'w')", "import logging\nlogging.FileHandler('x')", "path.touch()",
    ],
)  # fmt: skip
def test_a_module_that_wrote_one_would_be_found(source: str) -> None:
    assert writes_files(source)


@pytest.mark.parametrize(
    "source",
    [
        "open('x', 'rb')", "path.open('rb')", "path.read_text('utf-8')", "'x'.replace('a', 'b')",
        "server.open('tcp/25')",
        "import os\nos.open('x', os.O_RDONLY)", "import shutil\nshutil.which('nmap')", "import os\nos.close(3)",
    ],
)  # fmt: skip
def test_a_module_that_only_reads_is_left_alone(source: str) -> None:
    assert writes_files(source) == []


# --- killed, full, at once ------------------------------------------------------------------------

STEPS = ("open", "stat", "fchmod", "fdopen", "link", "unlink", "replace", "close")
OLD, NEW = b"old " * 50_000, b"new " * 60_000


def without_nameless(*_: object) -> int:
    """As on a file system that has no O_TMPFILE."""
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def killed_before_step(number: int, work: Callable[[], None]) -> bool:
    """Do the work in a process that ends, without a word, before its system call of this number; whether it did."""
    child = os.fork()
    if child == 0:
        left = number

        def counted(call: Callable[..., object]) -> Callable[..., object]:
            def one(*words: object, **more: object) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(9)
                return call(*words, **more)

            return one

        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 9)
    return os.waitstatus_to_exitcode(status) == 9


@pytest.mark.parametrize("named", [False, True], ids=["nameless", "named"])
@pytest.mark.parametrize("old", [None, OLD])
def test_a_kill_at_any_step_leaves_the_old_file_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes | None, named: bool
) -> None:
    if named:
        monkeypatch.setattr(files, "_nameless", without_nameless)
    steps = 0
    while True:
        folder = tmp_path / str(steps)
        folder.mkdir()
        path = folder / "scan.json"
        if old is not None:
            path.write_bytes(old)
        if not killed_before_step(steps, lambda path=path: files.write_file(path, NEW)):  # type: ignore[misc]
            break
        found = path.read_bytes() if path.exists() else None
        assert found in (old, NEW)
        rest = [one for one in folder.iterdir() if one != path]
        assert len(rest) <= 1
        assert all(stat.S_IMODE(one.stat().st_mode) == 0o600 for one in rest)
        if not named:
            assert all(one.read_bytes() == NEW for one in rest), "it has no name before it is whole"
            files.write_file(path, NEW)
            assert [one.name for one in folder.iterdir()] == ["scan.json"], "and goes with the next write"
        steps += 1
    assert steps > 5
    assert path.read_bytes() == NEW


@pytest.mark.parametrize(
    ("step", "named"),
    [*((step, named) for step in ("open", "fchmod", "fdopen", "replace") for named in (False, True)), ("link", False)],
)
def test_a_disk_that_is_full_at_any_step_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, named: bool
) -> None:
    def full(*words: object, **more: object) -> object:
        if step == "open" and more.get("dir_fd") is None:
            return opens(*words, **more)  # type: ignore[arg-type]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "scan.json"
    path.write_bytes(OLD)
    opens = os.open
    if named:
        monkeypatch.setattr(files, "_nameless", without_nameless)
    monkeypatch.setattr(os, step, full)
    with pytest.raises(Problem, match="No space left on device"):
        files.write_file(path, NEW)
    monkeypatch.undo()
    assert [(one.name, one.read_bytes() == OLD) for one in tmp_path.iterdir()] == [("scan.json", True)]


_MANY = """
import sys
from pathlib import Path
from exposure_scan.files import write_file
sys.stdin.readline()
for number in range(150):
    write_file(Path(sys.argv[1]), sys.argv[2] * 5000)
"""


def test_processes_that_write_the_same_file_at_once_leave_one_of_theirs_whole(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    line = [sys.executable, "-c", _MANY, str(path)]
    started = [subprocess.Popen([*line, mark], stdin=subprocess.PIPE, stderr=subprocess.PIPE) for mark in "abc"]
    for one in started:
        assert one.stdin is not None
        one.stdin.write(b"\n")
        one.stdin.flush()
    while any(one.poll() is None for one in started):
        if path.exists():
            text = path.read_text()
            assert len(text) == 5000
            assert len(set(text)) == 1
    assert [one.communicate()[1] for one in started] == [b""] * 3
    assert [one.name for one in tmp_path.iterdir()] == ["index.html"]


# --- planted --------------------------------------------------------------------------------------


def test_a_file_that_waits_under_our_own_name_is_not_written_through(tmp_path: Path) -> None:
    files.write_file(tmp_path / "scan.json", "first")
    victim = tmp_path / "victim"
    victim.write_text("of somebody else")
    name = files._PREFIX + sha256(b"scan.json").hexdigest()[:16]
    for plant in (os.symlink, os.link):
        plant(victim, tmp_path / name)
        files.write_file(tmp_path / "scan.json", "second")
        assert (tmp_path / "scan.json").read_text() == "second"
        assert victim.read_text() == "of somebody else"
        assert not (tmp_path / name).exists()


def test_a_lock_is_not_taken_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("x")
    (tmp_path / "victim").chmod(0o644)
    (tmp_path / "lock").symlink_to("victim")
    with pytest.raises(OSError, match="Too many levels of symbolic links"), files.locked(tmp_path / "lock"):
        pass
    assert stat.S_IMODE((tmp_path / "victim").stat().st_mode) == 0o644


def test_a_folder_keeps_its_mode_unless_everybody_may_write_to_it(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    for mode in (0o755, 0o750, 0o775, 0o1777):
        shared.chmod(mode)
        files.make_folder(shared)
        assert stat.S_IMODE(shared.stat().st_mode) == mode
    shared.chmod(0o777)
    with pytest.raises(Problem, match=r"Everybody may change the folder .*shared: chmod o-w"):
        files.make_folder(shared)
    with pytest.raises(Problem, match="Everybody may change"):
        files.make_own_folder(shared / "site")


def test_a_folder_of_ours_is_closed_to_others_and_another_users_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tmp_path / "site"
    ours.mkdir()
    ours.chmod(0o755)
    files.make_own_folder(ours)
    assert stat.S_IMODE(ours.stat().st_mode) == 0o700
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)  # as somebody else finds it
    with pytest.raises(Problem, match="is another user's"):
        files.make_own_folder(ours)


def test_a_history_that_another_user_put_where_all_may_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, link = tmp_path / "history.sqlite3", tmp_path / "link"
    files.make_empty(path)
    link.symlink_to(path)
    files.make_empty(link)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    real = Path.lstat
    monkeypatch.setattr(Path, "lstat", lambda self: os.stat_result((*real(self)[:4], 4712, *real(self)[5:])))
    files.make_empty(path)  # in a folder of ours: somebody let us in
    with pytest.raises(Problem, match="put there by another user"):
        files.make_empty(link)
    tmp_path.chmod(0o1777)
    with pytest.raises(Problem, match="put there by another user"):
        files.make_empty(path)
