"""What the inputs of the fuzz targets are made from: our own recipes and captures, and documents written here."""

from __future__ import annotations

import atexit
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

from capture_files import captured, interface, section
from kept_scans import FAST

from exposure_scan.conversation import Event

sys.path.append(str(Path(__file__).parents[1] / "pcaps"))
import recipes as written

PCAPS = written.HERE
TORTURE = Path(__file__).parent / "data" / "rfc4475"
Transport: TypeAlias = Literal["tcp", "udp", "icmp"]
LONGEST_CAPTURE = 6000  # bytes of a seed


@cache
def recipes() -> dict[str, written.Recipe]:
    return {f"{path.parent.name}/{path.stem}": written.read(path) for path in written.paths()}


def recorded() -> Iterator[tuple[Transport, list[Event]]]:
    for recipe in recipes().values():
        yield recipe.question.transport, recipe.events


@cache
def certificates() -> tuple[bytes, ...]:
    """Of real servers, as the recipes keep them."""
    shown = (event.detail.split(" ")[2] for _, events in recorded() for event in events if event.what == "secured")
    return tuple(map(bytes.fromhex, dict.fromkeys(filter(None, shown))))


@cache
def captures() -> tuple[tuple[bytes, str], ...]:
    """Small captures, and the host in each."""
    found = [
        (PCAPS.joinpath(f"{name}.pcap").read_bytes(), next(e.detail for e in recipe.events if e.detail))
        for name, recipe in recipes().items()
    ]
    return tuple((data, ends.split(" ")[1].partition("|")[0]) for data, ends in found if len(data) < LONGEST_CAPTURE)


def in_pcapng(capture: bytes) -> bytes:
    packets = io.BytesIO(capture)
    packets.seek(24)
    blocks = [section(), interface(101)]
    while head := packets.read(16):
        blocks.append(captured(0, 0, packets.read(int.from_bytes(head[8:12], "little"))))
    return b"".join(blocks)


@cache
def folder() -> Path:
    """Where files lie while they are read; it is removed at the end of the process."""
    path = Path(tempfile.mkdtemp(dir=FAST, prefix="exposure-scan-fuzz-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def file(name: str, data: bytes) -> Path:
    path = folder() / name
    path.write_bytes(data)
    return path


# --- documents -------------------------------------------------------------------------------------------

SITES = b"""
[partner]
name = "Synthetic partner"
mail = "noc@partner.example"
accent = "#1c4f9c"
[mail]
host = "mail.partner.example"
port = 587
security = "starttls"
username = "reports"
password_env = "MAIL_PASSWORD"
allowed_domains = ["dental.example"]
[[vantage]]
name = "rented server"
checked = 2026-11-20
blind = ["tcp/25", "udp/5060"]
forged = ["8080", "tcp/80-81"]
[[site]]
name = "Synthetic Dental"
targets = ["198.51.100.12", "pbx.dental.example", "2001:db8::12"]
fence = ["198.51.100.0/28", "2001:db8::12"]
device = "server"
expect = ["udp/5060", "tcp/5060-5061", "5060"]
voicemail = { smtp = 2525, imap = 1143 }
report_to = ["owner@dental.example"]
schedule = "0 3 * * MON-FRI"
packets_per_second = 50
[site.authorization]
by = "Synthetic owner"
on = 2026-11-01
until = 2026-12-31
[site.present]
by = "Synthetic technician"
on = 2026-11-24T10:00:00+01:00
[site.declares]
"password.admin" = { by = "Synthetic technician", on = 2026-11-01 }
[[site.waiver]]
practice = "server.stealth"
until = 2026-12-31
because = "synthetic"
by = "Synthetic owner"
"""

PACK = b"""
[pack]
name = "bench-px"
origin = "learnt on a bench (synthetic)"
[[fingerprint]]
id = "http.title"
field = "http.title"
pattern = '^Synthetic Expander (?P<model>\\w+) (?P<version>[0-9.]+)$'
class = "allworx-px"
product = "Allworx Px Expander"
confidence = 0.8
source = "a bench (synthetic)"
ports = [80]
companion = { field = "http.server", pattern = "^x" }
alone = 0.5
example = [
    { value = "Synthetic Expander Z 1", model = "Z", version = "1", said = { "http.server" = "x" }, port = "tcp/80" },
    { value = "Expander", match = false },
]
"""
