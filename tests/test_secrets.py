"""No secret that was planted is found in anything that a command says, writes, starts or fails with."""

from __future__ import annotations

import base64
import io
import os
import sqlite3
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from shutil import which

import pytest
from mail_server import PASSWORD, USER, serving, write_authority
from planted import (
    CONSENT,
    DATABASE,
    EXPOSED,
    KEY,
    ONE_SITE,
    PLANTED,
    PROXY,
    Figure,
    Search,
    command,
    family_of,
    home,
)

from exposure_scan import files, report, sweep
from exposure_scan.history.opening import shown_url
from exposure_scan.lab.network import add_address
from exposure_scan.transport.children import environment as for_children

pytestmark = pytest.mark.usefixtures("practice_site")


@pytest.fixture
def search(figure: Figure) -> Search:
    return Search(figure)


def test_a_search_would_find_a_secret_wherever_it_is(search: Search, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scan.json", f'{{"x": "{PROXY}"}}')
    db = tmp_path / "x.sqlite3"
    with sqlite3.connect(db) as made:
        made.execute("CREATE TABLE mail (message BLOB)")
        made.execute("INSERT INTO mail VALUES (?)", (zlib.compress(f"x{DATABASE}x".encode() * 9),))
    made.close()
    auth = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
    for name, data in (("zip", packed.getvalue()), (str(db), db.read_bytes()), ("log", f"AUTH PLAIN {auth}".encode())):
        with pytest.raises(AssertionError, match="holds a secret"):
            search.through(name, data)


@pytest.mark.skipif(which("nmap") is None, reason="nmap is not installed")
def test_no_child_process_and_no_output_of_a_scan_holds_a_secret(search: Search, tmp_path: Path) -> None:
    outputs = (
        "--json",
        "scan.json",
        "--html",
        "own.html",
        "--evidence",
        "evidence.zip",
        "--second-opinion",
        "--verbose",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "exposure_scan", "scan", EXPOSED, *CONSENT, *outputs],
        cwd=tmp_path,
        env=home(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with family_of(process) as family:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    search.through("standard output", out)
    search.through("standard error", err)
    search.folder(tmp_path)
    assert any(words.startswith(b"/usr") and b"nmap\0" in words.partition(b"-oX")[0] for words in family.arguments)
    assert any(b"exposure_scan.nmap.child" in words for words in family.arguments)
    for words in family.arguments:
        search.through("the arguments of a process", words)
    assert family.environments
    for words in family.environments:
        search.through("the environment of a process that was started", words)
        assert b"MY_MAIL_WORD" not in words
    saved = report.load_scan((tmp_path / "scan.json").read_text())
    for form in report.FORMATS:
        search.through(f"scan.{form}", sweep.render(saved, form))
    keys = zipfile.ZipFile(tmp_path / "evidence.zip").namelist()
    assert "tls-keys.txt" in keys or "tls-sessions.json" not in keys


def test_a_child_gets_what_it_needs_and_nothing_that_was_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {**PLANTED, "NMAPDIR": "/x", "LD_PRELOAD": "/x", "SSLKEYLOGFILE": "/x", "LC_ALL": "C"}.items():
        monkeypatch.setenv(name, text)
    found = for_children()
    assert not set(found) & {*PLANTED, "NMAPDIR", "LD_PRELOAD", "SSLKEYLOGFILE"}
    assert found["PATH"] == os.environ["PATH"]
    assert found["LC_ALL"] == "C"


def mailing(port: int, where: str) -> str:
    return f"""
[partner]
name = "Synthetic partner"
mail = "noc@partner.example"
[mail]
host = "localhost"
port = {port}
username = "{USER}"
{where}
{ONE_SITE}"""


@pytest.mark.parametrize("where", ['password_env = "MY_MAIL_WORD"', 'password_file = "secret"'])
@pytest.mark.parametrize("kind", ["sent", "refused"])
def test_a_sweep_that_mails_shows_its_password_nowhere(search: Search, tmp_path: Path, where: str, kind: str) -> None:
    files.write_file(tmp_path / "secret", PASSWORD)
    authority = write_authority(tmp_path / "authority.pem")
    with serving() as server:
        if kind == "refused":
            server.always["AUTH"] = f"535 {PASSWORD} is wrong: {base64.b64encode(PASSWORD.encode()).decode()}"
        files.write_file(tmp_path / "sites.toml", mailing(server.port, where))
        words = ("sweep", "--sites", "sites.toml", "--all", "--out", "out")
        done = command(tmp_path, *words, SSL_CERT_FILE=str(authority), EXPOSURE_SCAN_DEBUG="1")
        assert done.returncode == 1, done.stderr
        assert ("1 mail(s) sent." in done.stdout) == (kind == "sent")
        if kind == "sent":
            assert server.logins == [(USER, PASSWORD)], "the secret was really used"
    search.command(done)
    search.folder(tmp_path)


_CRASH = """
import sys
from exposure_scan.deliver import connection
{fault}
from exposure_scan.__main__ import main
sys.argv[0] = "exposure-scan"
main()
"""
FAULTS = {
    "in the login": "connection._base64 = lambda data: 1 / 0",
    "after the login": "connection.Delivery.send = lambda *words: 1 / 0",
    "in the scan": "from exposure_scan.sweep import nightly\nnightly.due = nightly._until = lambda *words: 1 / 0",
}


@pytest.mark.parametrize("debug", ["", "1"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_crash_in_the_middle_shows_no_secret_in_its_traceback(
    search: Search, tmp_path: Path, fault: str, debug: str
) -> None:
    authority = write_authority(tmp_path / "authority.pem")
    with serving() as server:
        files.write_file(tmp_path / "sites.toml", mailing(server.port, 'password_env = "MY_MAIL_WORD"'))
        done = subprocess.run(
            [sys.executable, "-c", _CRASH.format(fault=FAULTS[fault]), "sweep", "--sites", "sites.toml", "--all"],
            cwd=tmp_path,
            env={**home(tmp_path), "SSL_CERT_FILE": str(authority), "EXPOSURE_SCAN_DEBUG": debug},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 4
    assert ("Traceback" in done.stderr) == bool(debug)
    assert "ZeroDivisionError" in done.stderr
    search.command(done)
    search.folder(tmp_path)


DATABASES = [
    f"postgresql+nothing://user:{DATABASE}@127.0.0.1:1/history",
    f"postgresql://user:{DATABASE}@127.0.0.1:1/history?password={DATABASE}&sslpassword={DATABASE}",
    f"sqlite://user:{DATABASE}@host/",
    f"sqlite://user:{DATABASE}@host/?password={DATABASE}",
    f"//user:{DATABASE}@127.0.0.1",
]


@pytest.mark.parametrize("url", DATABASES)
def test_a_history_that_cannot_be_opened_shows_no_password_of_its_url(search: Search, tmp_path: Path, url: str) -> None:
    files.write_file(tmp_path / "sites.toml", ONE_SITE)
    for words in (("sweep", "--sites", "sites.toml", "--all"), ("history", "exposed-server")):
        done = command(tmp_path, *words, EXPOSURE_SCAN_DB=url)
        assert done.returncode == 2, done.stderr
        search.command(done)
        search.folder(tmp_path)


def test_the_lock_of_a_history_is_the_same_whatever_its_password() -> None:
    shown = {shown_url(f"postgresql://user:{secret}@db.example/history") for secret in ("one", "two")}
    assert shown == {"postgresql://user:***@db.example/history"}


def test_a_key_of_a_vantage_is_shown_nowhere(search: Search, tmp_path: Path) -> None:
    files.write_file(tmp_path / "planted.key", KEY)
    add_address("198.18.97.99")
    checks: Mapping[str, tuple[str, ...]] = {"the environment": (), "a file": ("--key-file", "planted.key")}
    for words in checks.values():
        done = command(tmp_path, "vantage", "check", "198.18.97.99", *CONSENT, *words)
        assert done.returncode == 3, done.stderr  # nobody there proves the key
        search.command(done)
    search.folder(tmp_path)
