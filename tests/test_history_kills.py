"""Several processes at one history, and processes that are killed: all of a change is there, or nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import samples
from kept_scans import HOSTS, NOW, PLAIN, PRACTICES, scan_of, url
from sqlalchemy import Engine, event

from exposure_scan.history.store import Letter, Store, open_store
from exposure_scan.model import Status


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with open_store(url(path)) as opened:
        yield opened


NEIGHBOUR = """
import sys
sys.path.insert(0, "tests")
import kept_scans as t
from exposure_scan.history.store import open_store
sys.stdin.readline()
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 8):
    with open_store(sys.argv[1]) as store:
        store.add(t.scan_of(number, t.Status.MET), now=t.NOW)
        store.begin_run([f"site {number}"], t.NOW)
"""


def test_processes_that_open_and_write_at_once_lose_nothing(path: Path) -> None:
    path.parent.mkdir()
    words = [sys.executable, "-c", NEIGHBOUR, url(path)]
    root = Path(__file__).parents[1]
    started = [
        subprocess.Popen([*words, str(n * 100)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)
        for n in range(4)
    ]
    for one in started:  # all are loaded: go
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    said = [one.communicate()[1] for one in started]
    assert said == [""] * 4
    with open_store(url(path)) as store:
        assert len(store.scans_of("silent-site")) == 32
        assert len(store.left_of(store.begin_run([], NOW)[0])) == 32


def killed(moment: int, work: Callable[[], None]) -> bool:
    """Do the work in a process that is killed before its statement, or commit, of this number; whether it was."""
    child = os.fork()
    if child == 0:
        left = moment

        def count(*_: object) -> None:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

        event.listen(Engine, "before_cursor_execute", count)
        event.listen(Engine, "commit", count)
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status == 0 or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)
    return status != 0


def test_a_kill_at_any_moment_of_add_leaves_all_or_nothing(path: Path) -> None:
    with open_store(url(path)) as store:
        store.add(scan_of(0, Status.NOT_MET), now=NOW)
        assert store.begin_run(["silent-site"], NOW) == (1, False)
    letters = [Letter("a@customer.example", b"a"), Letter("b@customer.example", b"b")]

    def work() -> None:
        with open_store(url(path)) as store:
            store.add(scan_of(1, Status.MET), now=NOW, run=1, letters=letters, files={"report.html": "0" * 64})

    moment, dead = 0, True
    while dead:
        dead = killed(moment, work)
        moment += 1
        with open_store(url(path)) as store:
            mail, left = store.outbox.counts(), store.left_of(1)
            kept, (look,) = len(store.scans_of("silent-site")), store.looks("silent-site", most=1)
        if dead:
            assert (kept, mail, left, look.earlier) == (1, {}, ("silent-site",), {})
    assert moment > 15  # it did die inside, again and again
    assert (kept, mail, left) == (2, {"queued": 2}, ())
    assert look.earlier == {(PRACTICES[0], HOSTS[0]): [(samples.AT, Status.NOT_MET)]}


def test_a_kill_while_the_tables_are_made_leaves_a_history_that_opens(path: Path) -> None:
    def work() -> None:
        with open_store(url(path)):
            pass

    moment = 0
    while killed(moment, work):
        moment += 1
        with open_store(url(path)) as store:
            store.add(PLAIN, now=NOW)
        shutil.rmtree(path.parent)
    assert moment > 20
