"""The one place that writes files: each whole or not at all, for its owner alone, never through a link.

What a scan leaves behind tells who reads it where a customer is open, and how his TLS sessions are read. So whatever
the umask and whoever else may write to the folder: a file is made 0600 before it has a name, a folder of ours is 0700,
and what stands at the place already (a link, another name of somebody's file, another user's folder) is never
written through.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from .model import Problem

_PREFIX = ".exposure-scan-"  # of what waits to get its name
_NO_NAMELESS = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})  # a file system without O_TMPFILE
_MOST_RIVALS = 100  # others that write the same file in the same moment
_FOLDER = os.O_DIRECTORY | os.O_CLOEXEC


# --- files ---------------------------------------------------------------------------------------


def check_writable(path: Path) -> None:
    """Make sure before anything is sent that a result can be written to `path`.

    Raises:
        Problem: it is no file, its folder is missing, or the folder cannot be written to.
    """
    with _told(path):
        if not path.parent.is_dir():
            raise Problem(f"The folder {path.parent} does not exist; create it first, or give another file.")
        with _folder(path) as place:
            _check_replaceable(path, place)
            try:
                os.close(_nameless(place))
            except OSError as error:
                if error.errno not in _NO_NAMELESS:
                    raise
                name = _PREFIX + secrets.token_hex(8)
                os.close(_named(place, name))
                os.unlink(name, dir_fd=place)


def write_file(path: Path, content: str | bytes) -> None:
    """Write `content` whole or not at all, readable by the owner alone (mode 0600).

    A process that is killed leaves what stood there, or the new file. Text is written as UTF-8.

    Raises:
        Problem: it cannot be written; what stood there before stands there still.
    """
    data = content.encode() if isinstance(content, str) else content
    with _told(path), _folder(path) as place:
        _check_replaceable(path, place)
        for _ in range(_MOST_RIVALS):
            if _put(place, path.name, data):
                return
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def _put(place: int, name: str, data: bytes) -> bool:
    """Put the file into the open folder; False where another process took its place just now."""
    try:
        handle = _nameless(place)
        # Always the same: what a killed process left under it goes when the file is written next.
        new = _PREFIX + sha256(os.fsencode(name)).hexdigest()[:16]
    except OSError as error:
        if error.errno not in _NO_NAMELESS:
            raise
        new = _PREFIX + secrets.token_hex(8)
        handle = _named(place, new)
        nameless = False
    else:
        nameless = True
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o600)  # an umask may have taken too much
            file.write(data)
            file.flush()
            if nameless:
                with suppress(FileNotFoundError):
                    os.unlink(new, dir_fd=place)
                os.link(f"/proc/self/fd/{handle}", new, dst_dir_fd=place)
        os.replace(new, name, src_dir_fd=place, dst_dir_fd=place)
    except (FileExistsError, FileNotFoundError):
        return False
    except BaseException:
        with suppress(OSError):
            os.unlink(new, dir_fd=place)
        raise
    return True


def _nameless(place: int) -> int:
    if not os.path.exists("/proc/self/fd"):  # through which it gets its name
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    return os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=place)


def _named(place: int, name: str) -> int:
    return os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=place)


def _check_replaceable(path: Path, place: int) -> None:
    """Only a file may be replaced: a rename by root over /dev/null or /dev/stdout would break the machine."""
    try:
        mode = os.stat(path.name or ".", dir_fd=place, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise Problem(f"{path} is a directory; give the name of a file.")
    if not stat.S_ISREG(mode):
        raise Problem(f"{path} is a link or a device, which would be replaced; give the name of a file.")


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    """The folder of a file, opened: whoever moves a link on the way to it meanwhile changes nothing."""
    place = os.open(path.parent, os.O_PATH | _FOLDER)
    try:
        yield place
    finally:
        os.close(place)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Problem(f"{path} cannot be written ({error.strerror}); choose another file.") from None


# --- folders -------------------------------------------------------------------------------------


def make_folder(folder: Path, otherwise: str = "choose another") -> None:
    """Make a folder where none is, and those above it, each for its owner alone (0700).

    One that is there is the user's, and keeps its mode.

    Args:
        folder: which.
        otherwise: what the user can do where it cannot be made, for the end of the sentence.

    Raises:
        Problem: it cannot be made, or everybody could put something else in the place of what is written there.
    """
    try:
        _make(folder)
        mode = folder.stat().st_mode
    except OSError as error:
        raise Problem(f"The folder {folder} cannot be made ({error.strerror}); {otherwise}.") from None
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise Problem(f"Everybody may change the folder {folder}: chmod o-w {folder}, or {otherwise}.")


def _make(folder: Path) -> None:
    if not folder.is_dir():
        if folder.parent != folder:
            _make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def make_own_folder(folder: Path) -> None:
    """Make a folder inside one of `make_folder`, for what is ours alone. One that is there is closed to others (0700).

    Raises:
        Problem: it cannot be made; or what is there is a link, a file or another user's.
    """
    make_folder(folder.parent)
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        if folder.is_symlink():
            raise Problem(f"{folder} is a link, which may lead anywhere; remove it.")
        place = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | _FOLDER)
        try:
            found = os.fstat(place)
            if found.st_uid != os.geteuid():
                raise Problem(f"The folder {folder} is another user's; move it away.")
            if stat.S_IMODE(found.st_mode) != 0o700:
                os.fchmod(place, 0o700)
        finally:
            os.close(place)
    except OSError as error:
        raise Problem(f"The folder {folder} cannot be made ({error.strerror}); move away what is there.") from None


# --- what others write, and locks ----------------------------------------------------------------


def make_empty(path: Path) -> None:
    """Make an empty file (0600) that a library will write to. One that is there is left alone.

    It is not even opened: to close it would let go of the locks that this process has on it.

    Raises:
        OSError: it cannot be made.
        Problem: another user put it there, to be written to.
    """
    with suppress(FileExistsError):
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(handle, 0o600)
        finally:
            os.close(handle)
    found = path.lstat()
    strange = found.st_uid not in (os.geteuid(), 0)
    if strange and (stat.S_ISLNK(found.st_mode) or path.parent.stat().st_mode & stat.S_IWOTH):
        raise Problem(f"{path} was put there by another user; choose another place.")


def close_to_others(path: Path) -> None:
    """Have a file that a library made read and written by its owner alone; another user's stays as it is."""
    with suppress(OSError):
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock while the block runs; the system lets go of it when the process ends.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file cannot be made.
    """
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(handle, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
