"""`verify`: a scan's record and its packets are two witnesses, and whatever was changed in one is named."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exposure_scan import evidence, lab, scope, sweep
from exposure_scan.cli import app
from exposure_scan.conversation import unescape
from exposure_scan.model import Evidence, Scan, Status, Step
from exposure_scan.report import load_scan
from exposure_scan.sweep import Result, disagreements
from exposure_scan.transport import Gate

LAB = Path(__file__).parents[1] / "pcaps" / "lab"
SITES = ("exposed-server", "remote-handset", "px-expander", "silent-site", "moved-voicemail")
HEADER, ENTRY = 24, 16  # bytes of the pcap's header, and before each packet


def kept(site: str) -> tuple[Scan, bytes]:
    return load_scan((LAB / f"{site}.json").read_text()), (LAB / f"{site}.pcap").read_bytes()


def entries(pcap: bytes) -> list[bytes]:
    found, at = [], HEADER
    while at < len(pcap):
        (size,) = struct.unpack_from("<8xI", pcap, at)
        found.append(pcap[at : at + ENTRY + size])
        at += ENTRY + size
    return found


def packed(pcap: bytes, packets: list[bytes]) -> bytes:
    return pcap[:HEADER] + b"".join(packets)


def payload(entry: bytes) -> bytes:
    """What a packet of TCP or UDP carries."""
    raw = entry[ENTRY:]
    body = raw[20:] if raw[0] >> 4 == 4 else raw[40:]
    protocol = raw[9] if raw[0] >> 4 == 4 else raw[6]
    if protocol == 6:
        return body[(body[12] >> 4) * 4 :]
    return body[8:] if protocol == 17 else b""


def frames_of(proof: Evidence) -> set[int]:
    parts = [part.partition("-") for part in proof.frames.split(",") if part]
    return {number for first, _, last in parts for number in range(int(first), int(last or first) + 1)}


@pytest.fixture(scope="module")
def transcripts(practice_site: None) -> dict[str, Result]:
    """The practice sites, scanned by somebody who may not record packets."""

    async def scan() -> dict[str, Result]:
        found = {}
        async for order, result in sweep.scan_sites(scope.read_sites_file(lab.sites_file()).orders):
            assert isinstance(result, Result)
            found[order.site.name] = result
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gate, "packet_capture", lambda _: None)
        return asyncio.run(scan())


@pytest.mark.parametrize("site", SITES)
def test_record_and_packets_of_every_practice_site_agree(site: str) -> None:
    scan, capture = kept(site)
    assert scan.capture == "wire"
    assert disagreements(scan, capture, site) == []


@pytest.mark.parametrize("site", SITES)
def test_every_packet_belongs_to_a_piece_of_evidence_and_every_piece_has_packets(site: str) -> None:
    scan, capture = kept(site)
    claimed = [frames_of(proof) for proof in scan.evidence]
    assert all(claimed)
    assert set().union(*claimed) == set(range(1, len(entries(capture)) + 1))


@pytest.mark.parametrize("site", SITES)
def test_a_changed_byte_of_what_was_said_is_named_by_its_evidence(site: str) -> None:
    scan, capture = kept(site)
    packets = entries(capture)
    owners = {number: proof.id for proof in scan.evidence for number in frames_of(proof)}
    words = {proof.id: (unescape(proof.sent), unescape(proof.received)) for proof in scan.evidence}
    speaking = [  # what came after we had stopped listening is not in the record
        number
        for number, entry in enumerate(packets, 1)
        if payload(entry) and any(payload(entry) in said for said in words[owners[number]])
    ]
    assert len(speaking) > 10
    for number in speaking[:: max(1, len(speaking) // 12)]:
        entry = packets[number - 1]
        changed = [*packets[: number - 1], entry[:-1] + bytes([entry[-1] ^ 1]), *packets[number:]]
        found = disagreements(scan, packed(capture, changed), site)
        assert any(f"{owners[number]}: " in sentence for sentence in found), number


@pytest.mark.parametrize("site", SITES)
def test_a_missing_packet_is_named_by_its_evidence(site: str) -> None:
    scan, capture = kept(site)
    packets = entries(capture)
    owners = {number: proof.id for proof in scan.evidence for number in frames_of(proof)}
    for number in range(1, len(packets) + 1, max(1, len(packets) // 12)):
        found = disagreements(scan, packed(capture, [*packets[: number - 1], *packets[number:]]), site)
        assert any(f"{owners[number]}: " in sentence for sentence in found), number


def test_a_conversation_that_was_taken_from_the_record_is_named_by_its_frames() -> None:
    scan, capture = kept("exposed-server")
    gone = next(proof for proof in scan.evidence if proof.probe == "sip-udp")
    less = scan.model_copy(update={"evidence": tuple(proof for proof in scan.evidence if proof is not gone)})
    assert disagreements(less, capture, "x") == [f"Frames {gone.frames} of the capture belong to no piece of evidence."]


@pytest.mark.parametrize("reason", ["syn-ack", "rst", "udp-reply", "echo-reply"])
def test_a_silence_that_the_capture_contradicts_is_named(reason: str) -> None:
    scan, capture = kept("exposed-server")
    spoke = next(proof for proof in scan.evidence if proof.reason == reason)
    ours = tuple(
        step for step in spoke.steps if step.what in (("asking",) if spoke.kind == "tcp" else ("connected", "sent"))
    )
    state = {"tcp": "filtered", "udp": "open|filtered", "icmp": "silent"}[spoke.kind]
    silent = spoke.model_copy(
        update={
            "state": state,
            "reason": "no-response",
            "by": None,
            "sent": "" if spoke.kind == "tcp" else spoke.sent,
            "received": "",
            "steps": (*ours, Step(ms=2000, what="silent")),
        }
    )
    changed = tuple(silent if proof is spoke else proof for proof in scan.evidence)
    found = disagreements(scan.model_copy(update={"evidence": changed}), capture, "x")
    assert any(f"({silent.reason}); the capture has an answer." in sentence for sentence in found)


def test_a_capture_that_is_missing_is_named() -> None:
    scan, _ = kept("exposed-server")
    assert disagreements(scan, None, "evidence.zip") == ["The capture is missing from evidence.zip."]


# --- the bundle, on the command line --------------------------------------------------------------


def bundled(folder: Path, scan: Scan, capture: bytes | None, keys: str = "") -> Path:
    path = folder / "evidence.zip"
    sweep.write_bundle(path, Result(scan, capture, keys))
    return path


def verify(*words: str) -> tuple[int, str]:
    ended = CliRunner().invoke(app, ["verify", *words])
    return ended.exit_code, ended.output


@pytest.mark.parametrize("site", SITES)
def test_the_bundle_of_every_practice_site_holds(site: str, tmp_path: Path) -> None:
    code, said = verify(str(bundled(tmp_path, *kept(site))))
    assert code == 0, said
    assert "and its packets as they were saved" in said


@pytest.mark.parametrize("site", SITES)
def test_a_transcript_holds_and_says_that_it_is_one(site: str, transcripts: dict[str, Result], tmp_path: Path) -> None:
    result = transcripts[site]
    assert result.scan.capture == "transcript"
    path = bundled(tmp_path, result.scan, result.capture)
    kept_bundle = evidence.read_bundle(path)
    assert (kept_bundle.how, kept_bundle.capture) == ("transcript", result.capture)
    code, said = verify(str(path))
    assert code == 0, said
    assert "and the transcript as they were saved" in said


def test_a_transcript_sees_what_the_wire_saw(transcripts: dict[str, Result]) -> None:
    """The same site, by both ways: each port's words are the same, whoever wrote the packets down."""
    wire, _ = kept("exposed-server")
    told = transcripts["exposed-server"].scan
    for ours, theirs in zip(told.hosts[0].ports, wire.hosts[0].ports, strict=True):
        assert (ours.key, ours.state, ours.banner) == (theirs.key, theirs.state, theirs.banner)
        assert {field: said for field, said in ours.said.items() if field != "sip.via"} == {
            field: said for field, said in theirs.said.items() if field != "sip.via"
        }
    assert {proof.frames != "" for proof in told.evidence} == {True}


def test_a_changed_capture_with_fitting_sums_is_found(tmp_path: Path) -> None:
    scan, capture = kept("exposed-server")
    changed = capture.replace(b"SIP/2.0 200", b"SIP/2.0 404", 1)
    assert changed != capture
    code, said = verify(str(bundled(tmp_path, scan, changed)))
    assert code == 1
    assert "e2: udp/5060: what was received" in said.replace("\n", " ")


@pytest.fixture
def judged_before(tmp_path: Path) -> Callable[..., Path]:
    """A bundle whose findings were judged by rules that did not know what they know today."""

    def make(**changes: str) -> Path:
        scan, capture = kept("exposed-server")
        findings = tuple(
            finding.model_copy(update={"status": Status(changes.get(finding.practice, finding.status))})
            for finding in scan.findings
        )
        scanner = scan.scanner.model_copy(update={"rules": "0" * 64})
        return bundled(tmp_path, scan.model_copy(update={"findings": findings, "scanner": scanner}), capture)

    return make


def test_todays_rules_on_old_evidence_say_since_when(judged_before: Callable[..., Path]) -> None:
    path = judged_before(**{"server.stealth": "met"})
    code, said = verify(str(path), "--rules", "today")
    day = kept("exposed-server")[0].started.date()
    assert code == 1
    assert f"server.stealth on 198.51.100.10 was met; it is not-met. Exposed since {day} at the latest" in said


def test_without_the_option_the_difference_counts_and_the_other_rules_are_mentioned(
    judged_before: Callable[..., Path],
) -> None:
    code, said = verify(str(judged_before(**{"server.stealth": "met"})))
    assert code == 1
    assert "saved as met, not not-met" in said
    assert "judged by other rules" in said


def test_todays_rules_that_say_the_same_end_well(judged_before: Callable[..., Path]) -> None:
    assert verify(str(judged_before()), "--rules", "today")[0] == 0


def test_a_folder_of_rules_that_is_not_there_is_wrong_use(judged_before: Callable[..., Path]) -> None:
    ended = CliRunner().invoke(app, ["verify", str(judged_before()), "--rules", "nowhere"])
    assert "There is no folder nowhere" in str(ended.exception)


# --- the customer's copy --------------------------------------------------------------------------


@pytest.mark.parametrize("site", SITES)
def test_the_customers_copy_verifies_and_says_the_same_without_names(site: str, tmp_path: Path) -> None:
    scan, capture = kept(site)
    path = bundled(tmp_path, scan, capture)
    copy = tmp_path / "copy.zip"
    ended = CliRunner().invoke(app, ["evidence", str(path), "--customer-copy", str(copy)])
    assert ended.exit_code == 0, ended.output
    assert copy.stat().st_mode & 0o777 == 0o600
    assert verify(str(copy))[0] == 0
    bundle = evidence.read_bundle(copy)
    made = load_scan(bundle.scan)
    assert made.redacted
    assert made.verdict == scan.verdict
    assert [finding.status for finding in made.findings] == [finding.status for finding in scan.findings]
    assert bundle.capture is not None
    assert (f"pbx.{site}".encode() in capture, f"pbx.{site}".encode() in bundle.capture) in (
        (True, False),
        (False, False),
    )
    assert f"pbx.{site}" not in bundle.scan
