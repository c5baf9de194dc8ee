"""The command line as a partner types it: words in; text, files and an exit code out."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from commands import Say, sayer

from exposure_scan.lab import sites_file
from exposure_scan.report import load_scan

ROOT = Path(__file__).parents[1]
SERVER, SILENT, HANDSET = "198.51.100.10", "198.51.100.40", "198.51.100.20"
BY = ("--authorized-by", "practice site")
SITES = ("--sites", str(sites_file()))


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Say:
    return sayer(monkeypatch, capsys, tmp_path)


def sent_packets() -> int:
    """Packets that left through the only device of this private network."""
    for row in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = row.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[9])
    raise AssertionError("no lo")


# --- wrong use ------------------------------------------------------------------------------------

NO_SITE_TOML = "[[site]]\nname = 'x'\n"
BROKEN_TOML = "[partner\n"
UNKNOWN_KEY = """
[[site]]
name = "x"
targets = ["198.51.100.10"]
colour = "red"
[site.authorization]
by = "practice site"
"""
EXPIRED = """
[[site]]
name = "x"
targets = ["198.51.100.10"]
[site.authorization]
by = "practice site"
until = 2020-01-01
"""
OUTSIDE = """
[[site]]
name = "x"
targets = ["198.51.100.10"]
fence = ["198.51.100.128/25"]
[site.authorization]
by = "practice site"
"""

WRONG: dict[str, tuple[Sequence[str], str]] = {
    "no target": (("scan", *BY), "No target"),
    "an empty target": (("scan", "", *BY), "Target 1"),
    "a blank target": (("scan", " ", *BY), "Target 1"),
    "nonsense as a target": (("scan", "not an address", *BY), "Target 1"),
    "an address of no host": (("scan", "224.0.0.1", *BY), "Target 1"),
    "everywhere": (("scan", "0.0.0.0", *BY), "Target 1"),
    "a private address": (("scan", "10.0.0.1", *BY), "--internal"),
    "too large a network": (("scan", "198.51.0.0/16", *BY), "256"),
    "no authorization": (("scan", SERVER), "--authorized-by"),
    "a blank authorization": (("scan", SERVER, "--authorized-by", "  "), "--authorized-by"),
    "an authorization that ended": (("scan", SERVER, *BY, "--until", "2020-01-01"), "expired"),
    "a date that is none": (("scan", SERVER, *BY, "--until", "soon"), "2026-12-31"),
    "ports that are none": (("scan", SERVER, *BY, "--ports", "tcp/0,banana,99999"), "banana"),
    "an expected port that is none": (("scan", SERVER, *BY, "--expect", "5060/udp"), "udp/5060"),
    "voicemail ports that are none": (("scan", SERVER, *BY, "--voicemail-ports", "smtp"), "smtp=2525"),
    "a device that is none": (("scan", SERVER, *BY, "--device", "toaster"), "toaster"),
    "an option that is none": (("scan", SERVER, *BY, "--loud"), "--loud"),
    "a command that is none": (("scna",), "scna"),
    "a name that nobody resolves": (("scan", "pbx.practice.invalid", *BY), "pbx.practice.invalid"),
    "a site without a file": (("scan", "--site", "exposed-server"), "--sites"),
    "a file without a site": (("scan", *SITES), "--site"),
    "a site that is not in the file": (("scan", "--site", "nobody", *SITES), "nobody"),
    "a site and a target": (("scan", SERVER, "--site", "exposed-server", *SITES), "not both"),
    "consent beside the file": (("scan", "--site", "exposed-server", *SITES, *BY), "--authorized-by"),
    "a sites file that is not there": (("scan", "--site", "x", "--sites", "none.toml"), "none.toml"),
    "a sites file without what a site needs": (("sites", "check", "--sites", "no-site.toml"), "site[1]"),
    "broken TOML": (("sites", "check", "--sites", "broken.toml"), "line 1"),
    "an unknown key": (("sites", "check", "--sites", "unknown.toml"), "colour"),
    "an expired site": (("scan", "--site", "x", "--sites", "expired.toml"), "expired"),
    "a site outside its fence": (("scan", "--site", "x", "--sites", "outside.toml"), "fence"),
    "JSON that cannot be written": (("scan", SERVER, *BY, "--json", "none/scan.json"), "none"),
    "HTML that cannot be written": (("scan", SERVER, *BY, "--html", "/proc/report.html"), "/proc"),
    "evidence that cannot be written": (("scan", SERVER, *BY, "--evidence", "."), "."),
    "a saved scan that is not there": (("report", "none.json"), "none.json"),
    "a saved scan that is none": (("report", "broken.toml"), "broken.toml"),
    "a bundle that is not there": (("verify", "none.zip"), "none.zip"),
    "a bundle that is none": (("verify", "broken.toml"), "broken.toml"),
    "a format that is none": (("report", "broken.toml", "--format", "doc"), "doc"),
    "templates that are nowhere": (("scan", SERVER, *BY, "--templates", "none"), "none is no folder"),
    "a template with a mistake": (("scan", SERVER, *BY, "--templates", "wrong"), "wrong/report.html.j2, line 2"),
    "an earlier scan that is none": (("report", "broken.toml", "--earlier", "none.json"), "none.json"),
    "a demo that cannot be written": (("demo", "--out", "broken.toml"), "broken.toml"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_use_is_told_in_a_sentence_and_nothing_is_sent(what: str, say: Say, tmp_path: Path) -> None:
    for name, text in {
        "no-site": NO_SITE_TOML,
        "broken": BROKEN_TOML,
        "unknown": UNKNOWN_KEY,
        "expired": EXPIRED,
        "outside": OUTSIDE,
    }.items():
        (tmp_path / f"{name}.toml").write_text(text)
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "report.html.j2").write_text("x\n{% for %}")
    words, expected = WRONG[what]
    before = sent_packets()
    said = say(*words)
    assert said.code == 2
    assert said.out == ""
    assert expected in said.err
    assert "Traceback" not in said.err
    assert len(said.err.splitlines()) < 12
    assert sent_packets() == before


def test_all_mistakes_are_told_at_once(say: Say) -> None:
    said = say("scan", "224.0.0.1", "not an address", "--until", "soon", "--expect", "banana")
    for word in ("Target 1", "Target 2", "--until", "--expect", "--authorized-by"):
        assert word in said.err


# --- scan -----------------------------------------------------------------------------------------


def test_a_no_go_exits_with_1_and_says_why(practice_site: None, say: Say) -> None:
    said = say("scan", SERVER, *BY)
    assert said.code == 1
    assert said.out.startswith("✗ NO-GO")
    assert "sip.not-reachable" in said.out
    assert said.err == ""


def test_silence_exits_with_3_and_with_a_word_on_who_confirmed_it_with_0(practice_site: None, say: Say) -> None:
    assert say("scan", SILENT, *BY, "--device", "server", "--quiet").code == 3
    said = say("scan", SILENT, *BY, "--device", "server", "--present", "technician (synthetic)", "--quiet")
    assert said.code == 0
    assert said.out.startswith("✓ GO")
    assert len(said.out.splitlines()) == 1


def test_undeclared_practices_hold_back_a_go_where_that_is_asked(practice_site: None, say: Say) -> None:
    words = ("scan", SILENT, *BY, "--device", "server", "--present", "technician (synthetic)", "--quiet")
    assert say(*words, "--require-declarations").code == 3


def test_every_file_is_written_and_verify_and_report_read_them(practice_site: None, say: Say, tmp_path: Path) -> None:
    files = ("--json", "scan.json", "--html", "report.html", "--evidence", "evidence.zip")
    assert say("scan", HANDSET, *BY, "--quiet", *files).code == 1
    assert load_scan((tmp_path / "scan.json").read_text()).verdict == "no-go"
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert say("verify", "evidence.zip").code == 0
    assert say("report", "scan.json").out == (tmp_path / "report.html").read_text()
    assert say("report", "scan.json", "--format", "json").out == (tmp_path / "scan.json").read_text()
    assert "This is the first scan" in say("report", "scan.json").out
    assert say("report", "scan.json", "--out", "again.html").out == ""
    assert (tmp_path / "again.html").read_text() == (tmp_path / "report.html").read_text()


def test_a_scan_is_held_against_earlier_ones_and_shown_by_own_templates(
    practice_site: None, say: Say, tmp_path: Path
) -> None:
    say("scan", HANDSET, *BY, "--quiet", "--ports", "tcp/25", "--json", "first.json")
    say("scan", HANDSET, *BY, "--quiet", "--json", "second.json")
    text = say("report", "second.json", "--earlier", "first.json").out
    assert "The verdict was INCONCLUSIVE and is now NO-GO." in text
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "report.html.j2").write_text("{{ page.course.summary }} {{ page.scan.verdict }}")
    said = say("report", "second.json", "--earlier", "first.json", "--templates", "own").out
    assert said.endswith("no-go")
    (tmp_path / "own" / "report.html.j2").write_text("\n{{ page.cours }}")
    said_wrong = say("report", "second.json", "--templates", "own")
    assert said_wrong.code == 2
    assert "own/report.html.j2, line 2: " in said_wrong.err


def test_json_on_standard_output_silences_the_rest(practice_site: None, say: Say) -> None:
    said = say("scan", SERVER, *BY, "--ports", "tcp/25", "--json", "-")
    assert json.loads(said.out)["schema"] == "exposure-scan/scan/1"
    assert said.err == ""


def test_verify_finds_one_changed_byte(practice_site: None, say: Say, tmp_path: Path) -> None:
    say("scan", SERVER, *BY, "--quiet", "--evidence", "evidence.zip")
    with zipfile.ZipFile(tmp_path / "evidence.zip") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for name in ("scan.json", "capture.pcap"):
        changed = dict(parts)
        changed[name] = changed[name][:-9] + bytes([changed[name][-9] ^ 1]) + changed[name][-8:]
        with zipfile.ZipFile(tmp_path / "changed.zip", "w") as archive:
            for part, data in changed.items():
                archive.writestr(part, data)
        said = say("verify", "changed.zip")
        assert said.code == 1
        assert name in said.err


def test_options_can_come_from_the_environment(practice_site: None, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPOSURE_SCAN_SCAN_AUTHORIZED_BY", "practice site")
    monkeypatch.setenv("EXPOSURE_SCAN_SCAN_QUIET", "1")
    monkeypatch.setenv("EXPOSURE_SCAN_SCAN_PORTS", "udp/5060")
    said = say("scan", SERVER)
    assert said.code == 1
    assert len(said.out.splitlines()) == 1


def test_no_colour_is_written_into_a_pipe(practice_site: None, say: Say) -> None:
    assert "\x1b" not in say("scan", SERVER, *BY, "--verbose").out


# --- what it knows --------------------------------------------------------------------------------


def test_the_practice_site_s_file_has_no_mistake(say: Say) -> None:
    said = say("sites", "check", *SITES)
    assert said.code == 0
    assert "exposed-server: 1 target(s), authorized by practice site until 2099-12-31" in said.out


def test_practices_lists_all_24(say: Say) -> None:
    said = say("practices")
    assert said.code == 0
    assert len(re.findall(r"^[a-z]+\.[a-z-]+ ", said.out, re.MULTILINE)) == 24


def test_banners_are_judged_a_line_each(say: Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = [
        {"field": "http.server", "value": "IST OIS"},
        {"field": "smtp.greeting", "value": "220 mail.example ESMTP Postfix"},
        {"field": "pop3.greeting", "value": "+OK POP3 Server pbx.example (InSciTek OIS) ready <1.1@pbx.example>"},
    ]
    banners = tmp_path / "banners.jsonl"
    banners.write_text("\n".join(map(json.dumps, lines)))
    with banners.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        said = say("fingerprint", "test")
    rows = [json.loads(row) for row in said.out.splitlines()]
    assert [(row["field"], row["value"]) for row in rows] == [(line["field"], line["value"]) for line in lines]
    assert rows[0]["class"].startswith("allworx")
    assert not (rows[1]["class"] or "").startswith("allworx")
    assert rows[2]["class"] == "allworx-server"
    assert {"class", "confidence", "fingerprint"} <= set(rows[0])


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"field": 1, "value": "x"}', '{"field": "http.server"}'])
def test_a_line_that_is_no_banner_is_wrong_use(
    line: str, say: Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "banners.jsonl").write_text(line)
    with (tmp_path / "banners.jsonl").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        said = say("fingerprint", "test")
    assert said.code == 2
    assert "Line 1" in said.err


# --- as a process ---------------------------------------------------------------------------------


def test_ctrl_c_ends_it_and_leaves_no_file(practice_site: None, tmp_path: Path) -> None:
    files = ["--json", "scan.json", "--html", "report.html", "--evidence", "evidence.zip"]
    command = [sys.executable, "-m", "exposure_scan", "scan", SILENT, *BY, *files]
    before = sent_packets()
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while sent_packets() < before + 5:  # it is asking
        assert process.poll() is None
        os.sched_yield()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == b""
    assert b"stopped" in err
    assert b"Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_version_and_help_import_nothing_heavy() -> None:
    for words in (["--version"], ["--help"]):
        command = [sys.executable, "-X", "importtime", "-m", "exposure_scan", *words]
        said = subprocess.run(command, capture_output=True, text=True, check=True)
        imported = {row.rsplit("|", 1)[1].strip().split(".")[0] for row in said.stderr.splitlines() if "|" in row}
        assert not imported & {"scapy", "dns", "sqlalchemy", "pydantic", "asyncio", "jinja2", "cryptography"}


def test_without_words_the_help_is_shown(say: Say) -> None:
    assert "Usage:" in say().out + say().err


def test_the_demo_writes_every_site_s_folder_and_says_where(tmp_path: Path) -> None:
    """The real command: it makes its own private network."""
    environment = {key: text for key, text in os.environ.items() if key != "EXPOSURE_SCAN_NAMESPACE"}
    command = [sys.executable, "-m", "exposure_scan", "demo", "--out", str(tmp_path / "demo")]
    said = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert said.returncode == 0, said.stderr
    assert str(tmp_path / "demo" / "index.html") in said.stdout
    folders = {"exposed-server", "remote-handset", "px-expander", "silent-site", "moved-voicemail"}
    assert {path.name for path in (tmp_path / "demo").iterdir()} == folders | {"index.html"}
    index = (tmp_path / "demo" / "index.html").read_text()
    for folder in folders:
        assert {path.name for path in (tmp_path / "demo" / folder).iterdir()} == {
            "scan.json",
            "report.html",
            "evidence.zip",
        }
        assert f'href="{folder}/report.html"' in index
