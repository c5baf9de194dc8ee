"""`vantage serve` and `vantage check` as commands."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from vantage_ends import (
    HOST,
    KEY,
    hello,
    own_addresses,
)

from exposure_scan import vantage
from exposure_scan.plan import default_ports
from exposure_scan.protocols.vantage import answer


@pytest.fixture(scope="module", autouse=True)
def _addresses() -> None:
    own_addresses()


# --- the commands ---------------------------------------------------------------------------------

COMMAND = [sys.executable, "-m", "exposure_scan", "vantage"]


def environment(folder: Path) -> Mapping[str, str]:
    rest = {key: text for key, text in os.environ.items() if not key.startswith("EXPOSURE_SCAN_VANTAGE")}
    return {**rest, "XDG_STATE_HOME": str(folder / "state"), "EXPOSURE_SCAN_VANTAGE_KEY": KEY.decode()}


def say(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "check", *words], env=environment(folder), cwd=folder, capture_output=True, text=True, check=False
    )


@contextmanager
def server(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """`vantage serve` as a user runs it, once it is ready."""
    words = [*COMMAND, "serve", "--listen", HOST]
    with subprocess.Popen(
        words, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("Ready on ")
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


BY = ("--authorized-by", "Synthetic owner")


def stored(folder: Path) -> Path:
    return folder / "state" / "exposure-scan" / "vantage.json"


class Stranger:
    """A connection that is held open."""

    def __enter__(self) -> Stranger:
        self.sock = socket.create_connection((HOST, 25), timeout=30)
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serving_ends_cleanly_when_it_is_told_to(tmp_path: Path, number: signal.Signals) -> None:
    with server(tmp_path) as process, Stranger(), Stranger() as last:
        last.sock.sendall(hello(1, port="tcp/25"))
        assert last.sock.recv(4096) == answer(KEY, hello(1, port="tcp/25"), "tcp/25", last.sock.getsockname())
        process.send_signal(number)  # the first one still holds its connection
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")


def test_a_check_on_the_command_line_is_kept_and_ends_with_0(tmp_path: Path) -> None:
    with server(tmp_path):
        said = say(tmp_path, HOST, *BY)
    assert (said.returncode, said.stderr) == (0, "")
    assert f"{len(default_ports())} ports can leave this network, seen as {HOST}." in said.stdout
    now = datetime.now(UTC)
    found = vantage.load_stored(stored(tmp_path), now)
    assert found is not None
    assert (found.blind, found.forged, found.checked) == ((), (), True)
    assert stored(tmp_path).stat().st_mode & 0o777 == 0o600


def _greet_all(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.sendall(b"220 \xe2\x80\xaemail [bold]x[/bold]\r\n")
                connection.recv(4096)


def test_a_port_that_somebody_else_answers_ends_with_1_and_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    with socket.create_server((HOST, 25)) as mail:
        greeter = threading.Thread(target=_greet_all, args=(mail,))
        greeter.start()
        try:
            with server(tmp_path) as process:
                said = say(tmp_path, HOST, *BY)
                process.send_signal(signal.SIGINT)
                _, told = process.communicate(timeout=30)
        finally:
            mail.shutdown(socket.SHUT_RDWR)
            greeter.join()
    assert told == "exposure-scan: not served, IPv4: Address already in use: tcp/25\n"
    assert (said.returncode, said.stderr) == (1, "")
    row = next(line for line in said.stdout.splitlines() if line.startswith("tcp/25"))
    assert row.split()[1] == "forged"
    assert '"220 mail [bold]x[/bold]"' in row
    found = vantage.load_stored(stored(tmp_path), datetime.now(UTC))
    assert found is not None
    assert (found.blind, found.forged) == ((), ("tcp/25",))


def test_where_nobody_proves_the_key_nothing_is_kept_and_it_ends_with_3(tmp_path: Path) -> None:
    said = say(tmp_path, HOST, *BY)
    assert (said.returncode, said.stderr) == (3, "")
    assert "says nothing about the ports, and nothing was kept" in said.stdout
    assert not stored(tmp_path).exists()


def test_wrong_use_is_told_and_ends_with_2(tmp_path: Path) -> None:
    no_consent = say(tmp_path, HOST)
    assert (no_consent.returncode, "No authorization" in no_consent.stderr) == (2, True)
    no_key = say(tmp_path, HOST, *BY, "--key-file", "none.key")
    assert (no_key.returncode, "none.key cannot be read" in no_key.stderr) == (2, True)
    (tmp_path / "state").write_text("a file where the folder should be")
    no_folder = say(tmp_path, HOST, *BY)
    assert (no_folder.returncode, "cannot be made" in no_folder.stderr) == (2, True)
