"""Files that must be whole or not there: saved scans, reports, and the bundle that `verify` reads.

A bundle is a zip with the scan's JSON, the capture where there is one, a note on how that capture
was made, and the SHA-256 of each, in the form that ``sha256sum -c`` reads.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from .model import Problem

SUMS = "SHA256SUMS"
SCAN = "scan.json"
REPORT = "report.html"
BUNDLE = "evidence.zip"
CAPTURE = "capture.pcap"
NOTE = "README.txt"
LIMIT = 256 * 1024 * 1024  # bytes unpacked; a larger bundle is none of ours

_EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's zero: the same evidence gives the same bytes
_NOTES = {
    "wire": (
        "capture.pcap holds the packets of this scan as they passed the scanner's own interface, and no others.\n"
        "What was said inside TLS is enciphered there; scan.json holds it in plain text.\n"
    ),
    "none": (
        "There is no capture: recording packets needs a privilege (CAP_NET_RAW) that the scanner did not have.\n"
        "scan.json holds every byte that was sent and received, as the sockets saw it.\n"
    ),
}


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle holds, after its sums were checked."""

    scan: str  # JSON text
    capture: bytes | None


def sums(folder: Path) -> dict[str, str]:
    """SHA-256, hex, of each file of a scan in a site's folder, by name; others there are the operator's own."""
    files = (folder / name for name in (SCAN, REPORT, BUNDLE))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}


def check_writable(path: Path) -> None:
    """Make sure before anything is sent that a result can be written to `path`.

    Raises:
        Problem: it is no file, its folder is missing, or the folder cannot be written to.
    """
    try:
        _check_replaceable(path)
        if not path.parent.is_dir():
            raise Problem(f"The folder {path.parent} does not exist; create it first, or give another file.")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise Problem(f"{path} cannot be written ({error.strerror}); choose another file.") from None


def write_file(path: Path, content: str | bytes) -> None:
    """Write `content` whole or not at all, readable by the owner alone (mode 0600).

    Raises:
        Problem: it cannot be written; what stood there before stands there still.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        _check_replaceable(path)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".exposure-scan-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Problem(f"{path} cannot be written ({error.strerror}); choose another file.") from None


def _check_replaceable(path: Path) -> None:
    """Only a file may be replaced: a rename by root over /dev/null or /dev/stdout would break the machine."""
    if path.is_dir():
        raise Problem(f"{path} is a directory; give the name of a file.")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise Problem(f"{path} is a link or a device, which would be replaced; give the name of a file.")


def write_bundle(path: Path, scan_json: str, capture: bytes | None) -> None:
    """Write the bundle of one scan, as `write_file` does."""
    parts = {SCAN: scan_json.encode(), NOTE: _NOTES["none" if capture is None else "wire"].encode()}
    if capture is not None:
        parts[CAPTURE] = capture
    parts[SUMS] = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in parts.items()).encode()
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, data in parts.items():
            info = zipfile.ZipInfo(part, _EPOCH)
            info.external_attr = 0o600 << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    write_file(path, whole.getvalue())


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and check its sums.

    Raises:
        Problem: it cannot be read or is no bundle.
        ValueError: a part is missing or was added, or its bytes are not those that were summed.
    """
    parts = _parts(path)
    if SUMS not in parts:
        raise Problem(f"{path} has no {SUMS}; give an evidence.zip that exposure-scan wrote.")
    sums = dict(_sum(line) for line in parts.pop(SUMS).decode("utf-8", "replace").splitlines())
    for name in (SCAN, *sums):
        if name not in parts:
            raise ValueError(f"{name} is missing from {path}")
    for name, data in parts.items():
        if name not in sums:
            raise ValueError(f"{name} in {path} is covered by no sum: it was added later")
        if hashlib.sha256(data).hexdigest() != sums[name]:
            raise ValueError(f"{name} in {path} is not what was written: its SHA-256 differs")
    return Bundle(parts[SCAN].decode("utf-8", "replace"), parts.get(CAPTURE))


def _parts(path: Path) -> dict[str, bytes]:
    """Every part by its name; raises as `read_bundle` does."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sum(info.file_size for info in entries) > LIMIT:
                raise Problem(f"{path} unpacks to more than {LIMIT} bytes; it is no bundle of exposure-scan.")
            if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in entries):
                raise Problem(f"{path} is packed in another way than evidence is; give an evidence.zip.")
            parts = {info.filename: archive.read(info) for info in entries}
    except (zlib.error, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: its bytes were changed ({error})") from None
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        if isinstance(error, zipfile.BadZipFile) and "CRC" in str(error):
            raise ValueError(f"{path}: its bytes were changed ({error})") from None
        raise Problem(f"{path} cannot be read as a bundle ({error}); give an evidence.zip.") from None
    if len(parts) != len(entries):
        raise ValueError(f"{path} holds two parts of one name: one was added later")
    return parts


def _sum(line: str) -> tuple[str, str]:
    digest, _, name = line.partition("  ")
    return name, digest
