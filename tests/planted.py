"""Secrets that are planted in a command's surroundings, and a search for them in all that it leaves behind."""

from __future__ import annotations

import base64
import io
import os
import sqlite3
import subprocess
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email import message_from_bytes
from pathlib import Path
from urllib.parse import quote

from mail_server import PASSWORD, USER
from pypdf import PdfReader

Figure = Callable[[str, int], None]
PROXY, DATABASE, KEY = "Planted-Proxy-4712", "Planted-Database-4713", "Planted-Vantage-Key-4714"
SECRETS = (PASSWORD, PROXY, DATABASE, KEY)
PLANTED = {
    "MY_MAIL_WORD": PASSWORD,
    "HTTPS_PROXY": f"http://user:{PROXY}@proxy.example:3128",
    "SOME_DATABASE": f"postgresql://user:{DATABASE}@db.example/history?password={DATABASE}",
    "EXPOSURE_SCAN_VANTAGE_KEY": KEY,
}
EXPOSED = "198.51.100.10"
CONSENT = ("--authorized-by", "practice site")


def home(folder: Path) -> dict[str, str]:
    """An environment in which all folders of the user lie in this one, and secrets stand in it."""
    own = {name: str(folder / name.lower()) for name in ("XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")}
    kept = {key: text for key, text in os.environ.items() if not key.startswith("EXPOSURE_SCAN_DB")}
    return {**kept, **own, **PLANTED, "NO_COLOR": "1"}


def command(folder: Path, *words: str, umask: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exposure_scan", *words],
        cwd=folder,
        env={**home(folder), **more},
        capture_output=True,
        text=True,
        check=False,
        umask=umask,
        timeout=180,
    )


ONE_SITE = f"""
[[site]]
name = "exposed-server"
targets = ["{EXPOSED}"]
report_to = ["owner@customer.example"]
authorization = {{ by = "practice site" }}
"""


def spellings(secret: str) -> set[bytes]:
    """How a secret may look when it is passed on."""
    raw = secret.encode()
    coded = base64.b64encode(raw)
    plain = base64.b64encode(b"\0" + USER.encode() + b"\0" + raw)
    return {
        raw,
        coded,
        plain,
        quote(secret).encode(),
        raw.hex().encode(),
        repr(secret)[1:-1].encode(),
        secret.encode("utf-16-le"),
    }


NEEDLES = set().union(*map(spellings, SECRETS))


def unpacked(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """The bytes of an output, and of what is packed in it."""
    yield name, data
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for part in archive.namelist():
                yield f"{name}: {part}", archive.read(part)
    elif data[:4] == b"%PDF":
        yield f"{name}: text", "".join(page.extract_text() for page in PdfReader(io.BytesIO(data)).pages).encode()
    elif name.endswith(".eml"):
        for number, piece in enumerate(message_from_bytes(data).walk()):
            if isinstance(payload := piece.get_payload(decode=True), bytes):
                yield f"{name}: {number}", payload
    elif data[:15] == b"SQLite format 3":
        yield from _cells(name)


def _cells(name: str) -> Iterator[tuple[str, bytes]]:
    with sqlite3.connect(f"file:{name}?mode=ro", uri=True) as db:
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in db.execute(f'SELECT * FROM "{table}"'):
                for cell in row:
                    data = cell if isinstance(cell, bytes) else str(cell).encode()
                    with suppress(zlib.error):
                        data = zlib.decompress(data)
                    yield f"{name}: {table}", data
    db.close()


class Search:
    """Looks for secrets, and counts the outputs that it looked at."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure

    def through(self, name: str, data: bytes | str) -> None:
        """This output, and what is packed in it."""
        for part, text in unpacked(name, data if isinstance(data, bytes) else data.encode("utf-8", "replace")):
            self.figure("secrets: outputs searched", 1)
            assert not [needle for needle in NEEDLES if needle in text], f"{part} holds a secret"

    def folder(self, folder: Path) -> None:
        """All files below a folder, and their names."""
        for path in sorted(folder.rglob("*")):
            self.through("a name", str(path))
            if path.is_file() and path.name not in ("secret", "planted.key"):
                self.through(str(path), path.read_bytes())

    def command(self, done: subprocess.CompletedProcess[str]) -> None:
        """What a command said."""
        self.through("standard output", done.stdout)
        self.through("standard error", done.stderr)


class Family:
    """The arguments and environments of all that a process starts, while it runs."""

    def __init__(self) -> None:
        self.arguments: set[bytes] = set()
        self.environments: set[bytes] = set()

    def look(self, root: int) -> None:
        """Look at what runs just now."""
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with suppress(OSError, IndexError, ValueError):
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        for process in parents:
            above, children = process, 0
            while above != root and above in parents:
                above, children = parents[above], children + 1
            if above == root:
                with suppress(OSError):
                    self.arguments.add(Path(f"/proc/{process}/cmdline").read_bytes())
                    if children:  # its own is where the secrets stand
                        self.environments.add(Path(f"/proc/{process}/environ").read_bytes())


@contextmanager
def family_of(process: subprocess.Popen[str]) -> Iterator[Family]:
    family, done = Family(), threading.Event()

    def looking() -> None:
        while not done.wait(0.02):
            family.look(process.pid)

    thread = threading.Thread(target=looking)
    thread.start()
    try:
        yield family
    finally:
        done.set()
        thread.join()
