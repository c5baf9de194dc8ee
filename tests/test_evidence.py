"""Files that are whole or not there: what cannot be written is told before and after, and changes nothing."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exposure_scan.evidence import Bundle, write_bundle
from exposure_scan.files import check_writable, write_file
from exposure_scan.model import Problem

Writer = Callable[[Path], None]
WRITERS = [
    pytest.param(lambda path: write_file(path, "new words"), id="text"),
    pytest.param(lambda path: write_file(path, b"\x00\xff"), id="bytes"),
    pytest.param(lambda path: write_bundle(path, Bundle("{}\n", b"a capture", "wire")), id="bundle"),
]


def no_folder(tmp_path: Path) -> Path:
    return tmp_path / "absent" / "scan.json"


def below_a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    return tmp_path / "file" / "scan.json"


def read_only(_: Path) -> Path:
    return Path("/proc/scan.json")  # root writes everywhere but here


def a_folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def a_name_too_long(tmp_path: Path) -> Path:
    return tmp_path / ("x" * 300)


def a_pipe(tmp_path: Path) -> Path:  # stands for /dev/null, which a broken guard would really replace
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def a_link(tmp_path: Path) -> Path:
    (tmp_path / "target").write_text("of somebody else")
    (tmp_path / "link").symlink_to("target")
    return tmp_path / "link"


def a_dead_link(tmp_path: Path) -> Path:
    (tmp_path / "link").symlink_to("nowhere")
    return tmp_path / "link"


BAD = [no_folder, below_a_file, read_only, a_folder, a_name_too_long, a_pipe, a_link, a_dead_link]
bad_places = pytest.mark.parametrize("place", BAD, ids=lambda place: place.__name__)
writers = pytest.mark.parametrize("write", WRITERS)


def everything(folder: Path) -> dict[str, bytes | str]:
    """Each entry below a folder: the bytes of a file, the target of a link, else nothing."""

    def content(path: Path) -> bytes | str:
        return os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""

    return {str(path.relative_to(folder)): content(path) for path in folder.rglob("*")}


# --- before anything is sent ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scan.json", "x" * 255, "-", "a b\nc"])
def test_a_new_file_in_a_folder_can_be_written_and_the_check_leaves_nothing(tmp_path: Path, name: str) -> None:
    check_writable(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    write_file(tmp_path / name, "new")
    assert (tmp_path / name).read_text() == "new"


def test_a_file_that_exists_can_be_written_and_the_check_does_not_touch_it(tmp_path: Path) -> None:
    (tmp_path / "scan.json").write_text("old")
    check_writable(tmp_path / "scan.json")
    assert everything(tmp_path) == {"scan.json": b"old"}


def test_a_bare_name_is_of_the_folder_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_writable(Path("scan.json"))
    write_file(Path("scan.json"), "new")
    assert everything(tmp_path) == {"scan.json": b"new"}


@bad_places
def test_a_place_where_nothing_can_be_written_is_told_in_one_sentence(
    tmp_path: Path, place: Callable[[Path], Path]
) -> None:
    path = place(tmp_path)
    before = everything(tmp_path)
    with pytest.raises(Problem) as problem:
        check_writable(path)
    (sentence,) = problem.value.sentences
    assert str(path) in sentence or str(path.parent) in sentence
    assert sentence.endswith(".")
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (no_folder, "does not exist; create it first"),
        (a_folder, "is a directory; give the name of a file"),
        (a_name_too_long, "File name too long"),
        (a_pipe, "is a link or a device, which would be replaced"),
        (a_link, "is a link or a device, which would be replaced"),
    ],
)
def test_the_sentence_says_what_is_wrong(tmp_path: Path, place: Callable[[Path], Path], words: str) -> None:
    with pytest.raises(Problem, match=words):
        check_writable(place(tmp_path))


# --- writing -------------------------------------------------------------------------------------


@writers
@bad_places
def test_what_cannot_be_written_is_a_sentence_and_changes_nothing(
    tmp_path: Path, place: Callable[[Path], Path], write: Writer
) -> None:
    path = place(tmp_path)
    before = everything(tmp_path)
    with pytest.raises(Problem) as problem:
        write(path)
    assert str(path) in str(problem.value)
    assert everything(tmp_path) == before


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("old", [None, b"the old scan"])
@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda path: write_file(path, b"x" * 20_000), id="file"),
        pytest.param(lambda path: write_bundle(path, Bundle("{}\n", os.urandom(20_000), "wire")), id="bundle"),
    ],
)
def test_a_disk_that_fills_up_leaves_the_old_file_and_no_half_of_the_new(
    tmp_path: Path, old: bytes | None, write: Writer
) -> None:
    path = tmp_path / "result"
    if old is not None:
        path.write_bytes(old)
    with no_file_longer_than(10_000), pytest.raises(Problem, match=r"result cannot be written \(File too large\)"):
        write(path)
    assert everything(tmp_path) == ({} if old is None else {"result": old})


@writers
def test_an_interrupt_at_the_last_moment_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Writer
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "result")
    assert everything(tmp_path) == {}


@writers
def test_the_new_file_is_never_seen_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Writer
) -> None:
    """At the moment of the rename all bytes stand in another file of that folder, the old one is untouched."""
    path = tmp_path / "result"
    path.write_text("old")
    lengths = []
    replace = os.replace

    def watched(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        lengths.append((tmp_path / source).stat().st_size)
        assert path.read_text() == "old"
        replace(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "replace", watched)
    write(path)
    assert lengths == [path.stat().st_size]


@writers
@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_a_result_is_readable_by_its_owner_alone_even_over_a_public_file(
    tmp_path: Path, write: Writer, umask: int
) -> None:
    public = tmp_path / "public"
    public.write_text("old")
    public.chmod(0o666)
    before = os.umask(umask)
    try:
        for path in (tmp_path / "new", public):
            write(path)
            assert path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


@writers
def test_overwriting_keeps_nothing_of_the_old_file(tmp_path: Path, write: Writer) -> None:
    path = tmp_path / "result"
    path.write_bytes(b"old " * 100_000)
    write(path)
    fresh = tmp_path / "fresh"
    write(fresh)
    assert path.read_bytes() == fresh.read_bytes()


def test_another_name_of_the_old_file_keeps_the_old_words(tmp_path: Path) -> None:
    (tmp_path / "scan.json").write_text("old")
    os.link(tmp_path / "scan.json", tmp_path / "kept.json")
    write_file(tmp_path / "scan.json", "new")
    assert everything(tmp_path) == {"scan.json": b"new", "kept.json": b"old"}


@pytest.mark.parametrize(("content", "data"), [("é\n", b"\xc3\xa9\n"), (b"\r\n\x00", b"\r\n\x00"), ("", b"")])
def test_text_is_written_as_utf_8_and_no_line_end_is_changed(tmp_path: Path, content: str | bytes, data: bytes) -> None:
    write_file(tmp_path / "f", content)
    assert (tmp_path / "f").read_bytes() == data
