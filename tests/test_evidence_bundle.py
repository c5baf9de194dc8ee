"""The bundle that `verify` reads: it gives back what was put in, and what was changed in it is noticed."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from exposure_scan.evidence import CAPTURE, NOTE, SCAN, SUMS, Bundle, read_bundle, write_bundle
from exposure_scan.evidence import bundle as bundles
from exposure_scan.model import Problem

DOCUMENT = '{"schema": "exposure-scan/scan/1", "site": {"name": "Synthétique"}}\n' * 20
PCAP = b"\xd4\xc3\xb2\xa1" + bytes(range(256)) * 8


def whole(document: str, capture: bytes | None) -> Bundle:
    return Bundle(document, capture, "none" if capture is None else "wire")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "evidence.zip"
    write_bundle(path, whole(DOCUMENT, PCAP))
    return path


def rewrite(path: Path, change: Callable[[dict[str, bytes]], object], *, method: int = zipfile.ZIP_DEFLATED) -> None:
    """Pack the bundle anew with its parts changed."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("capture", [None, b"", PCAP])
@pytest.mark.parametrize("document", [DOCUMENT, "", "\r\n"])
def test_a_bundle_gives_back_what_was_put_in(tmp_path: Path, document: str, capture: bytes | None) -> None:
    write_bundle(tmp_path / "e.zip", whole(document, capture))
    assert read_bundle(tmp_path / "e.zip") == whole(document, capture)


def test_the_same_evidence_gives_the_same_bytes(tmp_path: Path, bundle: Path) -> None:
    write_bundle(tmp_path / "again.zip", whole(DOCUMENT, PCAP))
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


@pytest.mark.parametrize("capture", [None, PCAP])
def test_a_technician_can_check_the_sums_with_ordinary_tools(tmp_path: Path, capture: bytes | None) -> None:
    write_bundle(tmp_path / "e.zip", whole(DOCUMENT, capture))
    folder = tmp_path / "unpacked"
    shutil.unpack_archive(tmp_path / "e.zip", folder)
    parts = {SCAN, NOTE, SUMS} | ({CAPTURE} if capture else set())
    assert {path.name for path in folder.iterdir()} == parts
    said = subprocess.run(["sha256sum", "-c", SUMS], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert set(said.splitlines()) == {f"{name}: OK" for name in parts - {SUMS}}


@pytest.mark.parametrize(("capture", "words"), [(None, "There is no capture"), (PCAP, "holds the packets")])
def test_the_note_says_whether_there_is_a_capture(tmp_path: Path, capture: bytes | None, words: str) -> None:
    write_bundle(tmp_path / "e.zip", whole(DOCUMENT, capture))
    with zipfile.ZipFile(tmp_path / "e.zip") as archive:
        assert words in archive.read(NOTE).decode()


@pytest.mark.parametrize("mask", [0x01, 0x04, 0x06, 0x80, 0xFF])  # 0x06 makes LZMA of deflate
def test_a_changed_byte_is_noticed_or_changes_nothing(bundle: Path, mask: int) -> None:
    content = bundle.read_bytes()
    sentences = []
    for place in range(len(content)):
        bundle.write_bytes(content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :])
        try:
            assert read_bundle(bundle) == whole(DOCUMENT, PCAP), f"byte {place}"
        except (Problem, ValueError) as error:
            sentences.append(str(error))
    assert len(sentences) > len(content) / 2
    assert all(str(bundle) in sentence for sentence in sentences)


def test_a_bundle_that_was_cut_short_is_noticed(bundle: Path) -> None:
    whole = bundle.read_bytes()
    for size in range(len(whole)):
        bundle.write_bytes(whole[:size])
        with pytest.raises(Problem):
            read_bundle(bundle)


def test_a_changed_part_is_named(bundle: Path) -> None:
    rewrite(bundle, lambda parts: parts.update({SCAN: parts[SCAN].replace(b"scan/1", b"scan/2")}))
    with pytest.raises(ValueError, match=r"^scan\.json in .* its SHA-256 differs"):
        read_bundle(bundle)


@pytest.mark.parametrize("name", [SCAN, NOTE, CAPTURE])
def test_a_missing_part_is_named(bundle: Path, name: str) -> None:
    rewrite(bundle, lambda parts: parts.pop(name))
    with pytest.raises(ValueError, match=f"^{name} is missing from "):
        read_bundle(bundle)


def test_a_scan_that_is_missing_from_parts_and_sums_alike_is_noticed(bundle: Path) -> None:
    def drop(parts: dict[str, bytes]) -> None:
        del parts[SCAN]
        parts[SUMS] = b"".join(line for line in parts[SUMS].splitlines(True) if not line.endswith(b"scan.json\n"))

    rewrite(bundle, drop)
    with pytest.raises(ValueError, match=r"^scan\.json is missing from "):
        read_bundle(bundle)


@pytest.mark.parametrize("name", ["extra.txt", "../../etc/cron.d/x", "folder/"])
def test_a_part_that_was_added_is_named_and_nothing_is_unpacked(bundle: Path, name: str) -> None:
    rewrite(bundle, lambda parts: parts.update({name: b""}))
    with pytest.raises(ValueError, match=f"^{name} in .* is covered by no sum"):
        read_bundle(bundle)
    assert list(bundle.parent.iterdir()) == [bundle]


def test_a_capture_that_no_sum_covers_is_not_believed(tmp_path: Path) -> None:
    write_bundle(tmp_path / "e.zip", whole(DOCUMENT, None))
    rewrite(tmp_path / "e.zip", lambda parts: parts.update({CAPTURE: PCAP}))
    with pytest.raises(ValueError, match=r"^capture\.pcap in .* is covered by no sum"):
        read_bundle(tmp_path / "e.zip")


def test_a_part_whose_name_is_no_text_is_noticed(bundle: Path) -> None:
    rewrite(bundle, lambda parts: parts.update({"é": b""}))
    bundle.write_bytes(bundle.read_bytes().replace("é".encode(), b"\xff\xff"))
    with pytest.raises(ValueError, match=f"^{bundle}: its bytes were changed"):
        read_bundle(bundle)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_second_part_of_the_same_name_is_noticed(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        scan = archive.read(SCAN)
    with zipfile.ZipFile(bundle, "a") as archive:
        archive.writestr(SCAN, scan)
    with pytest.raises(ValueError, match="two parts of one name"):
        read_bundle(bundle)


def test_a_bundle_without_sums_is_none(bundle: Path) -> None:
    rewrite(bundle, lambda parts: parts.pop(SUMS))
    with pytest.raises(Problem, match=r"has no SHA256SUMS; give an evidence\.zip"):
        read_bundle(bundle)


@pytest.mark.parametrize("sums", [b"", b"\xff\xfe nonsense\n", b"abc  scan.json\n", b"\n"])
def test_sums_that_are_nonsense_are_noticed(bundle: Path, sums: bytes) -> None:
    rewrite(bundle, lambda parts: parts.update({SUMS: sums}))
    with pytest.raises(ValueError, match=str(bundle)):
        read_bundle(bundle)


def test_a_bundle_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(bundle) as archive:
        size = sum(info.file_size for info in archive.infolist())
    monkeypatch.setattr(bundles, "LIMIT", size)
    assert read_bundle(bundle).capture == PCAP
    monkeypatch.setattr(bundles, "LIMIT", size - 1)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("a part was unpacked"))
    with pytest.raises(Problem, match=f"unpacks to more than {size - 1} bytes"):
        read_bundle(bundle)


def test_a_bundle_packed_anew_is_still_one_and_one_packed_otherwise_is_none(bundle: Path) -> None:
    rewrite(bundle, lambda parts: None, method=zipfile.ZIP_STORED)
    assert read_bundle(bundle) == whole(DOCUMENT, PCAP)
    rewrite(bundle, lambda parts: None, method=zipfile.ZIP_BZIP2)
    with pytest.raises(Problem, match="packed in another way"):
        read_bundle(bundle)


@pytest.mark.parametrize("data", [b"", b"{}", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"\xff" * 4096])
def test_what_is_no_zip_is_no_bundle(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "e.zip").write_bytes(data)
    with pytest.raises(Problem, match=r"give an evidence\.zip"):
        read_bundle(tmp_path / "e.zip")


@pytest.mark.parametrize("name", ["absent.zip", ".", "evidence.zip/below", "x" * 300])
def test_what_cannot_be_read_is_no_bundle(bundle: Path, name: str) -> None:
    with pytest.raises(Problem, match="cannot be read as a bundle"):
        read_bundle(bundle.parent / name)
