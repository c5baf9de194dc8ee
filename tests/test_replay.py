"""Captures that others made, judged as our own scans are; nothing is sent."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from tapes import HOST, ports, statuses
from typer.testing import CliRunner

from exposure_scan import lab, scope, sweep
from exposure_scan.cli.others import replay_command
from exposure_scan.model import DeviceClass, PortState, Problem, Scan, Status, Verdict
from exposure_scan.report import load_scan
from exposure_scan.sweep.held import disagreements
from exposure_scan.sweep.replayed import Replayed, replayed

LAB = Path(__file__).parents[1] / "pcaps" / "lab"
SITES = ("exposed-server", "remote-handset", "px-expander", "silent-site", "moved-voicemail")


# --- our own scans, heard on the wire -------------------------------------------------------------


def heard(scan: Scan, file: Path) -> Replayed:
    site = scan.site
    words: scope.Words = {
        "device": site.device.removeprefix("allworx-") if site.device else None,
        "voicemail_ports": ",".join(f"{name}={port}" for name, port in site.voicemail.items()) or None,
    }
    return replayed(file, [host.address for host in scan.hosts], **words)


# What the wire alone does not show. Everything else comes out as in the scan itself.
ENCIPHERED = {"moved-voicemail": {"tcp/5061": "SIP inside TLS 1.3", "tcp/1143": "the certificate after STARTTLS"}}
RESTS_ON_IT = {"moved-voicemail": {"sip.not-reachable": (Status.NOT_MET, Status.CANNOT_TELL)}}  # tcp/5061


@pytest.mark.parametrize("site", SITES)
def test_a_capture_of_our_scan_gives_what_the_scan_gave(site: str) -> None:
    scan = load_scan((LAB / f"{site}.json").read_text())
    seen = heard(scan, LAB / f"{site}.pcap").result.scan
    assert seen.hosts[0].device.class_ == scan.hosts[0].device.class_
    assert (seen.hosts[0].echo, seen.hosts[0].alive.proven) == (scan.hosts[0].echo, scan.hosts[0].alive.proven)
    for key, ours in ports(scan).items():
        theirs = ports(seen)[key]
        looked = key.startswith("tcp/") and ours.state is PortState.OPEN  # a scan counts no first look that succeeds
        assert (theirs.state, theirs.reason, theirs.by) == (ours.state, ours.reason, ours.by)
        assert theirs.tries == ours.tries + looked, key
        if key not in ENCIPHERED.get(site, {}):
            assert (theirs.service, theirs.banner, theirs.said) == (ours.service, ours.banner, ours.said), key
    assert ports(seen).keys() == ports(scan).keys()
    differing = {
        practice: (status, statuses(seen)[practice])
        for practice, status in statuses(scan).items()
        if statuses(seen)[practice] != status and status is not Status.DECLARED  # a capture declares nothing
    }
    assert differing == RESTS_ON_IT.get(site, {})


def test_of_enciphered_words_the_session_shows(tmp_path: Path) -> None:
    scan = load_scan((LAB / "moved-voicemail.json").read_text())
    ours, theirs = ports(scan), ports(heard(scan, LAB / "moved-voicemail.pcap").result.scan)
    for key in ENCIPHERED["moved-voicemail"]:
        tls = theirs[key].tls
        own = ours[key].tls
        assert tls is not None
        assert own is not None
        assert (tls.version, tls.cipher, tls.sha256) == (own.version, own.cipher, None)
    assert theirs["tcp/5061"].service is None
    assert theirs["tcp/1143"].service == "imap"


@pytest.mark.parametrize("site", SITES)
def test_what_was_replayed_verifies_from_its_own_evidence(site: str) -> None:
    seen = heard(load_scan((LAB / f"{site}.json").read_text()), LAB / f"{site}.pcap").result
    saved = load_scan(seen.scan.to_json())
    assert sweep.differences(saved, sweep.rederive(saved)) == []
    assert disagreements(saved, seen.capture, "bundle") == []
    assert saved.origin is not None
    assert (saved.origin.kind, saved.origin.name) == ("capture", f"{site}.pcap")


@contextmanager
def tcpdump(file: Path) -> Iterator[None]:
    """A capture of all interfaces, begun before the block and ended after its last packet."""
    if shutil.which("tcpdump") is None:
        pytest.skip("tcpdump is not installed")
    command = ["tcpdump", "-i", "any", "-n", "-U", "-Z", "root", "-w", "-", "net 198.51.100.0/24"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stderr:
            if b"listening on" in line:
                break
        else:
            pytest.skip("tcpdump may not capture here")
        said: list[bytes] = []
        all_there = threading.Event()

        def read(stream: int) -> None:
            while data := os.read(stream, 65536):
                said.append(data)
                if b"the last packet" in said[-1] or b"the last packet" in b"".join(said[-2:]):
                    all_there.set()

        reader = threading.Thread(target=read, args=(process.stdout.fileno(),))
        reader.start()
        try:
            yield
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as marker:
                marker.sendto(b"the last packet", ("198.51.100.250", 9))
            assert all_there.wait(5)
        finally:
            process.terminate()
            reader.join(5)
            process.wait(5)
        file.write_bytes(b"".join(said))


def test_tcpdump_beside_a_live_scan_gives_the_same_findings(practice_site: None, tmp_path: Path) -> None:
    orders = scope.read_sites_file(lab.sites_file()).orders
    wanted = [order for order in orders if order.site.name in ("exposed-server", "moved-voicemail")]

    async def scan() -> list[Scan]:
        return [result.scan async for _, result in sweep.scan_sites(wanted) if isinstance(result, sweep.Result)]

    with tcpdump(tmp_path / "live.pcap"):
        scans = asyncio.run(scan())
    assert len(scans) == 2
    for ours in scans:
        seen = heard(ours, tmp_path / "live.pcap")
        assert seen.result.capture is None  # of another form than the evidence's reader takes as it is
        theirs = seen.result.scan
        assert theirs.capture == "none"
        assert theirs.hosts[0].device.class_ == ours.hosts[0].device.class_
        assert {key: (port.state, port.reason) for key, port in ports(theirs).items()} == {
            key: (port.state, port.reason) for key, port in ports(ours).items()
        }
        for practice, status in statuses(ours).items():
            expected = RESTS_ON_IT.get(ours.site.name, {}).get(practice, (status, status))
            assert statuses(theirs)[practice] == expected[1] or status is Status.DECLARED, practice


def test_nmap_and_a_browser_show_what_they_asked_and_no_more(practice_site: None, tmp_path: Path) -> None:
    for tool in ("nmap", "curl"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    nmap = ["nmap", "-n", "-Pn", "-sS", "-p", "21-25,80,8080", "--max-retries", "1", "198.51.100.10"]
    with tcpdump(tmp_path / "nmap.pcap"):
        subprocess.run(nmap, check=True, capture_output=True, timeout=30)
        subprocess.run(["curl", "-s", "http://198.51.100.10/"], check=True, capture_output=True, timeout=10)
    seen = replayed(tmp_path / "nmap.pcap", [HOST]).result.scan
    states = {key: port.state for key, port in ports(seen).items() if port.reason != "not-in-the-capture"}
    assert states == {
        **{f"tcp/{port}": PortState.CLOSED for port in (21, 22, 23, 24)},
        **{f"tcp/{port}": PortState.OPEN for port in (25, 80, 8080)},
    }
    assert ports(seen)["tcp/25"].service is None  # nmap's SYN scan hears no greeting
    assert ports(seen)["tcp/80"].said["http.server"] == "IST OIS"
    assert seen.hosts[0].device.class_ is DeviceClass.SERVER
    assert statuses(seen)["sip.not-reachable"] is Status.CANNOT_TELL  # nobody asked


# --- the command ----------------------------------------------------------------------------------


def command(*words: str) -> tuple[int, str, BaseException | None]:
    app = typer.Typer()
    app.command()(replay_command)
    done = CliRunner().invoke(app, words)
    return done.exit_code, done.output, done.exception


def test_the_command_judges_and_writes_what_a_scan_writes(tmp_path: Path) -> None:
    file = str(LAB / "exposed-server.pcap")
    bundle, page = tmp_path / "evidence.zip", tmp_path / "report.html"
    code, text, _ = command(file, "--address", HOST, "--quiet", "--evidence", str(bundle), "--html", str(page))
    assert code == 1
    assert text.startswith("✗ NO-GO")
    assert bundle.stat().st_size > 1000
    assert "exposed-server.pcap" in page.read_text()
    code, document, _ = command(file, "--address", HOST, "--json", "-", "--device", "server")
    assert (code, load_scan(document).site.device) == (1, DeviceClass.SERVER)


@pytest.mark.parametrize(
    ("file", "address", "sentence"),
    [
        (LAB / "silent-site.pcap", HOST, f"{HOST} sends and receives nothing in silent-site.pcap; the addresses"),
        (LAB / "silent-site.json", HOST, "silent-site.json is no capture"),
        (LAB / "none.pcap", HOST, "none.pcap cannot be read (No such file or directory)"),
        (LAB, HOST, "lab cannot be read (Is a directory)"),
        (LAB / "silent-site.pcap", "pbx.example", '--address "pbx.example" is no address'),
    ],
)
def test_wrong_use_is_told_in_a_sentence(file: Path, address: str, sentence: str) -> None:
    with pytest.raises(Problem) as told:
        replayed(file, [address])
    assert told.value.sentences[0].startswith(sentence)


def test_a_file_that_ends_in_the_middle_is_read_up_to_there_and_told(tmp_path: Path) -> None:
    file = tmp_path / "cut.pcap"
    file.write_bytes((LAB / "exposed-server.pcap").read_bytes()[:5000])
    seen = replayed(file, [HOST])
    assert seen.notes == ("cut.pcap ends in the middle of a packet; what came after it is not known.",)
    assert seen.result.scan.verdict is Verdict.NO_GO
