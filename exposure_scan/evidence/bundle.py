"""The bundle that `verify` reads.

It is a zip with the scan's JSON, the capture where there is one, a note on how that capture
was made, and the SHA-256 of each, in the form that ``sha256sum -c`` reads.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import textwrap
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

from exposure_scan.files import write_file
from exposure_scan.model import Problem, Scan

How: TypeAlias = Literal["wire", "transcript", "none"]

SUMS = "SHA256SUMS"
SCAN = "scan.json"
REPORT = "report.html"
BUNDLE = "evidence.zip"
CAPTURE = "capture.pcap"
TRANSCRIPT = "transcript.pcap"
SESSIONS = "tls-sessions.json"
KEYS = "tls-keys.txt"
NOTE = "README.txt"
LIMIT = 256 * 1024 * 1024  # bytes unpacked; a larger bundle is none of ours

_EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's zero: the same evidence gives the same bytes
_NAMES: Mapping[How, str] = MappingProxyType({"wire": CAPTURE, "transcript": TRANSCRIPT})
_NOTES: Mapping[How, str] = MappingProxyType(
    {
        "wire": (
            "capture.pcap holds the packets of this scan as they passed the scanner's own interface, and no others.\n"
            "scan.json holds every byte that was sent and received, and names the frames of each piece of evidence.\n"
        ),
        "transcript": (
            "transcript.pcap was NOT taken from the wire: recording packets needs a privilege (CAP_NET_RAW)\n"
            "that the scanner did not have, or packets were dropped. It was rebuilt from what the scanner's\n"
            "sockets said and saw. Observed are: what was sent and received, both ends, the times, that a\n"
            "connection was asked for, came about, was refused, ended or torn down, and ICMP errors. Made up\n"
            "are all other parts of the headers (sequence numbers, time to live, window, the cut into\n"
            "segments), and which attempt was refused where two were under way. Not there are: repetitions\n"
            "by the kernel, the end of connections that the scanner closed, a wide sweep's knocks, and pings\n"
            "that another program sent.\n"
            "scan.json holds every byte that was sent and received, and names the frames of each piece of evidence.\n"
        ),
        "none": "There is no capture. scan.json holds every byte that was sent and received, as the sockets saw it.\n",
    }
)
_TLS_NOTE = (
    "What was said inside TLS is enciphered in the capture; scan.json holds it in plain text. tls-sessions.json holds\n"
    "each session's version, cipher and certificate. tls-keys.txt opens these sessions and no others:\n"
    "    tshark -r {name} -o tls.keylog_file:tls-keys.txt\n"
)
_MASKED_NOTE = (
    "This is a copy in which nonces, host names and serials were replaced by x, letter by letter. Packets and\n"
    "findings were made anew from it. Whoever did the scan holds the complete evidence.\n"
)
_CHECK_NOTE = "To check: sha256sum -c SHA256SUMS, and: exposure-scan verify evidence.zip\n"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle holds, after its sums were checked."""

    scan: str  # JSON text
    capture: bytes | None = None  # pcap
    how: How = "none"  # the capture was made
    keys: str = ""  # an NSS key log


def sums(folder: Path) -> dict[str, str]:
    """SHA-256, hex, of each file of a scan in a site's folder, by name; others there are the operator's own."""
    files = (folder / name for name in (SCAN, REPORT, BUNDLE))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}


def write_bundle(path: Path, bundle: Bundle, sessions: str = "", *, masked: bool = False) -> None:
    """Write the bundle of one scan, whole or not at all.

    Args:
        path: the file.
        bundle: what goes into it.
        sessions: what `tls_sessions` gives.
        masked: whether it is a copy in which things were masked.
    """
    note = (_MASKED_NOTE if masked else "") + _NOTES[bundle.how]
    parts = {SCAN: bundle.scan.encode()}
    if bundle.capture is not None:
        parts[_NAMES[bundle.how]] = bundle.capture
    if sessions:
        parts[SESSIONS] = sessions.encode()
    if bundle.keys:
        parts[KEYS] = bundle.keys.encode()
        note += _TLS_NOTE.format(name=_NAMES.get(bundle.how, "FILE"))
    parts[NOTE] = (note + _CHECK_NOTE).encode()
    parts[SUMS] = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in parts.items()).encode()
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, data in parts.items():
            info = zipfile.ZipInfo(part, _EPOCH)
            info.external_attr = 0o600 << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    write_file(path, whole.getvalue())


def tls_sessions(scan: Scan) -> str:
    """JSON: version, cipher and certificate of each TLS session, by the id of its evidence; empty without any.

    Raises:
        ValueError: the record of a session is damaged.
    """
    rows = [
        {"evidence": proof.id, "address": proof.address, "port": proof.port, **_session(step.detail)}
        for proof in scan.evidence
        for step in proof.steps
        if step.what == "secured"
    ]
    return json.dumps(rows, indent=2) + "\n" if rows else ""


def _session(detail: str) -> dict[str, str | None]:
    version, cipher, der = detail.split(" ")
    lines = textwrap.wrap(base64.b64encode(bytes.fromhex(der)).decode(), 64)
    pem = "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""]) if der else None
    sha256 = hashlib.sha256(bytes.fromhex(der)).hexdigest() if der else None
    return {"version": version, "cipher": cipher, "certificate_sha256": sha256, "certificate": pem}


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
    how: How = next((how for how, name in _NAMES.items() if name in parts), "none")
    capture = parts.get(_NAMES.get(how, ""))
    return Bundle(parts[SCAN].decode("utf-8", "replace"), capture, how, parts.get(KEYS, b"").decode("utf-8", "replace"))


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
