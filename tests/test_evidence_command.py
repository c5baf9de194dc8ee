"""`evidence` as a partner types it, and the little captures that it cuts out, opened by another reader."""

from __future__ import annotations

import io
import random
import struct
from functools import cache
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path

import pytest
from commands import Say, sayer
from hypothesis import given
from hypothesis import strategies as st

from exposure_scan import evidence
from exposure_scan.cli import app
from exposure_scan.cli.evidence import evidence_command
from exposure_scan.conversation import events_of
from exposure_scan.model import Scan
from exposure_scan.model.ranges import joined_ranges, read_ranges
from exposure_scan.report import load_scan
from exposure_scan.transport.flows import Flow, read_flows
from exposure_scan.transport.packets import read_packets
from exposure_scan.transport.pcap import cut

LAB = Path(__file__).parents[1] / "pcaps" / "lab"
SITE = "exposed-server"
PCAP = (LAB / f"{SITE}.pcap").read_bytes()


@pytest.fixture(scope="module", autouse=True)
def _added() -> None:
    if not any(command.name == "evidence" for command in app.registered_commands):
        app.command("evidence")(evidence_command)


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Say:
    return sayer(monkeypatch, capsys, tmp_path, 120)


def flows_of(capture: bytes, scan: Scan) -> list[Flow]:
    hosts = {ip_address(host.address) for host in scan.hosts}
    return read_flows(read_packets(io.BytesIO(capture), "test"), hosts)


@cache
def saved_scan() -> Scan:
    """A saved scan of the practice site; its evidence names its frames."""
    return load_scan((LAB / f"{SITE}.json").read_text("utf-8"))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "evidence.zip"
    evidence.write_bundle(path, evidence.Bundle(saved_scan().to_json(), PCAP, "wire"))
    return path


# --- the command ----------------------------------------------------------------------------------


def test_without_a_finding_it_lists_which_evidence_there_is(say: Say, bundle: Path) -> None:
    code, out, err = say("evidence", str(bundle))
    assert (code, err) == (0, "")
    row = next(line.split() for line in out.splitlines() if line.startswith("server.stealth"))
    assert row == ["server.stealth", "✗", "Not", "met", "e1", "1–2"]  # noqa: RUF001 - ranges
    assert "EHLO" not in out


def test_a_practice_shows_its_talk_from_a_bundle_and_from_a_saved_scan(say: Say, bundle: Path, tmp_path: Path) -> None:
    code, out, err = say("evidence", str(bundle), "--finding", "server.voicemail-ports-moved")
    assert (code, err) == (0, "")
    assert out.startswith("✗ Not met: server.voicemail-ports-moved at 198.51.100.10\n")
    assert "e5  tcp/25  2026-11-25 " in out
    assert "← 220 pbx.exposed-server.invalid InSciTek OIS Ready here ESMTP" in out
    assert "→ EHLO exposure-scan.invalid" in out
    saved = tmp_path / "anything.txt"
    saved.write_text(saved_scan().to_json(), "utf-8")
    assert say("evidence", str(saved), "--finding", "server.voicemail-ports-moved") == (code, out, err)


def test_the_silence_behind_an_open_question_is_shown(say: Say) -> None:
    code, out, _ = say("evidence", str(LAB / "silent-site.json"), "--finding", "server.stealth")
    assert code == 0
    assert "? Cannot tell: server.stealth at 198.51.100.40" in out
    assert out.count("· nothing for ") == 3
    assert out.count("· sent once more: the same 38 bytes") == 2


def test_a_practice_that_only_a_person_knows_has_no_talk(say: Say, bundle: Path) -> None:
    code, out, _ = say("evidence", str(bundle), "--finding", "password.admin")
    assert code == 0
    assert "No evidence is cited for it: nothing was sent." in out


def test_the_little_capture_holds_one_talk_and_its_bytes_are_those_of_the_record(
    say: Say, bundle: Path, tmp_path: Path
) -> None:
    small = tmp_path / "e5.pcap"
    code, out, err = say("evidence", str(bundle), "--finding", "e5", "--pcap", str(small))
    assert (code, err) == (0, "")
    look, flow = flows_of(small.read_bytes(), saved_scan())  # the port was found open, and then talked with
    (piece,) = (piece for piece in saved_scan().evidence if piece.id == "e5")
    assert look.peer == flow.peer == ("198.51.100.10", 25)
    assert [event.what for event in look.events if event.data] == []
    for what in ("sent", "received"):
        shown = b"".join(event.data for event in flow.events if event.what == what)
        assert shown == b"".join(event.data for event in events_of(piece) if event.what == what) != b""
    assert f"Written: {small} ({len(look.frames) + len(flow.frames)} packets)" in out
    assert small.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--finding", "server.stelth"), 'has no finding and no evidence "server.stelth". It has these findings: sip'),
        (("--finding", "e4000"), "and 33 pieces of evidence, such as e1."),
        (("--finding", "\x1b[2J"), r'no finding and no evidence "\u001b[2J"'),
        (("--pcap", "x.pcap"), "--pcap needs --finding ID"),
        (("--finding", "password.admin", "--pcap", "x.pcap"), "does not say which packets are meant"),
        (("--finding", "e1", "--pcap", "."), ". is a directory; give the name of a file."),
    ],
)
def test_wrong_use_is_a_sentence_and_writes_nothing(
    say: Say, bundle: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    code, out, err = say("evidence", str(bundle), *words)
    assert (code, out) == (2, "")
    assert said in err
    assert not (tmp_path / "x.pcap").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "This is not JSON"),
        (b"\xff\xfe", "is neither a saved scan nor an evidence.zip"),
        (b"PK\x03\x04 no zip", "cannot be read as a bundle"),
        (PCAP, "is neither a saved scan nor an evidence.zip"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_a_file_that_is_none_is_a_sentence(say: Say, tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    code, out, err = say("evidence", str(path))
    assert (code, out) == (2, "")
    assert said in err


def test_a_saved_scan_and_a_bundle_without_a_capture_have_nothing_to_cut(say: Say, tmp_path: Path) -> None:
    plain = tmp_path / "scan.json"
    plain.write_text(saved_scan().to_json(), "utf-8")
    bare = tmp_path / "bare.zip"
    evidence.write_bundle(bare, evidence.Bundle(saved_scan().to_json()))
    for path in (plain, bare):
        code, _, err = say("evidence", str(path), "--finding", "e5", "--pcap", "x.pcap")
        assert code == 2
        assert "holds no capture; --pcap needs an evidence.zip with one." in err


@pytest.mark.parametrize(
    ("frames", "said"),
    [("1-9999", "packet 156 is not in the capture"), ("9-3", "'9-3' are no numbers up to")],
)
def test_frames_that_the_capture_has_not_are_a_sentence(say: Say, tmp_path: Path, frames: str, said: str) -> None:
    pieces = tuple(piece.model_copy(update={"frames": frames}) for piece in saved_scan().evidence)
    path = tmp_path / "evidence.zip"
    forged = saved_scan().model_copy(update={"evidence": pieces})
    count = sum(1 for _ in read_packets(io.BytesIO(PCAP), SITE))
    evidence.write_bundle(path, evidence.Bundle(forged.to_json(), PCAP, "wire"))
    code, _, err = say("evidence", str(path), "--finding", "e5", "--pcap", "x.pcap")
    assert code == 2
    assert said.replace("156", str(count + 1)) in err


def test_changed_bytes_of_a_bundle_are_noticed(say: Say, bundle: Path) -> None:
    data = bundle.read_bytes()
    middle = len(data) // 2
    bundle.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    code, _, err = say("evidence", str(bundle))
    assert code == 2
    assert "The evidence was changed or damaged" in err


# --- cutting --------------------------------------------------------------------------------------


def made(order: str, magic: int, sizes: list[int]) -> bytes:
    """A capture with packets of these sizes."""
    dice = random.Random(7)
    header = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262144, 113)
    rows = (
        (struct.pack(f"{order}IIII", number, number * 7, size, size + 3), dice.randbytes(size))
        for number, size in enumerate(sizes, 1)
    )
    return header + b"".join(head + data for head, data in rows)


ORDERS = pytest.mark.parametrize("order", "<>")
MAGICS = pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D])


@ORDERS
@MAGICS
def test_link_type_times_and_byte_order_stay_as_they_were(order: str, magic: int) -> None:
    whole = made(order, magic, [40, 0, 1500, 60])
    part = cut(whole, [range(4, 5), range(1, 3)])
    assert part[:24] == whole[:24]
    assert part[24:] == whole[24 : 24 + 56 + 16] + whole[-76:]


@ORDERS
def test_a_capture_that_ends_in_the_middle_says_so(order: str) -> None:
    whole = made(order, 0xA1B2C3D4, [40, 60])
    for end in (24, 30, 80, 81, 100, len(whole) - 1):
        with pytest.raises(ValueError, match=r"packet [12] is not in the capture|in the middle of packet [12]"):
            cut(whole[:end], [range(1, 3)])
    assert cut(whole[:-1], [range(1, 2)]) == whole[:80]


@pytest.mark.parametrize("data", [b"", b"\xd4\xc3\xb2\xa1", b"\x0a\x0d\x0d\x0a" + bytes(60), b"PK\x03\x04" + bytes(60)])
def test_what_is_no_pcap_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no pcap file"):
        cut(data, [range(1, 2)])


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.data())
def test_what_is_cut_is_what_was_asked_for(sizes: list[int], data: st.DataObject) -> None:
    whole = made("<", 0xA1B2C3D4, sizes)
    numbers = data.draw(st.sets(st.integers(1, len(sizes))))
    rows, at = [], 24
    for size in sizes:
        rows.append(whole[at : at + 16 + size])
        at += 16 + size
    frames = joined_ranges(range(number, number + 1) for number in numbers)
    assert cut(whole, frames) == whole[:24] + b"".join(rows[number - 1] for number in sorted(numbers))


@given(st.sets(st.integers(1, 60)))
def test_frame_numbers_are_read_as_they_are_written(numbers: set[int]) -> None:
    ranges = joined_ranges(range(number, number + 1) for number in numbers)
    text = ",".join(str(one.start) if len(one) == 1 else f"{one.start}-{one.stop - 1}" for one in ranges)
    assert read_ranges(text) == ranges
    assert all(before.stop < after.start for before, after in pairwise(ranges))  # neighbours are one range
    assert {number for one in ranges for number in one} == numbers


@pytest.mark.parametrize("text", ["0", "2,1", "1,1", "5-3", "1-", "-2", "1,,2", " 1", "01", "99999999", "\u0661"])
def test_what_are_no_frame_numbers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no numbers up to"):
        read_ranges(text)
