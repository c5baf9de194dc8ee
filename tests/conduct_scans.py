"""Scans of the practice site as a user starts them, all sites at once, with the witness beside them."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from conduct import Connection, Packet, Record, connections, witnessed

from exposure_scan import lab
from exposure_scan.conversation import unescape

ROOT = Path(__file__).parent.parent
ADDRESSES = {device.name: device.address for device in lab.DEVICES}
if Path("/proc/net/if_inet6").exists():
    ADDRESSES["exposed-server-6"] = "2001:db8::10"  # the same device by its other address
SERVED = {  # what accepts a connection
    (address, service.port)
    for name, address in ADDRESSES.items()
    for device in lab.DEVICES
    for service in device.services
    if device.name == name.removesuffix("-6") and service.transport != "udp"
}
EXITS = dict.fromkeys(ADDRESSES, 1) | {"silent-site": 3}
SECONDS = 120  # for all scans of a mode; they take a tenth

_SIX = """
[[site]]
name = "exposed-server-6"
targets = ["2001:db8::10"]
[site.authorization]
by = "practice site"
until = 2099-12-31
"""
_PROGRAM = """
import sys
{}
sys.argv = ["exposure-scan", *sys.argv[1:]]
from exposure_scan.cli import run
run()
"""


@dataclass(frozen=True, slots=True)
class Mode:
    """A way of scanning: what it is started with, and the pace that it promises, in packets a second."""

    name: str
    options: tuple[str, ...] = ()
    patch: str = ""  # what is different in the program
    rate: float = 100.0  # to one host
    burst: int = 20
    total: float | None = None  # to all hosts together


RAW = Mode("raw engine")
ORDINARY = Mode(
    "ordinary engine",
    patch="from exposure_scan.transport import Gate\n"
    "Gate.packet_capture = Gate.raw_syns = lambda *_: None  # as for a user without CAP_NET_RAW",
)
OPINION = Mode("second opinion", ("--second-opinion",))
WIDE = Mode(
    "wide",
    ("--ports", "wide"),
    patch="from exposure_scan import plan\nplan.EVERY_PORT = range(1143, 2600, 2)  # all 65,535 take minutes",
    rate=500.0,
    burst=50,
)
SWEEP = Mode("sweep", total=200.0)
MODES = (RAW, ORDINARY, OPINION, WIDE, SWEEP)


class Cost(NamedTuple):
    """What a scan sends to one site: packets, and their bytes from the IP header on."""

    packets: int
    size: int


# As measured; `docs/what-we-send.md` tells those of the raw engine, and a tenth more fails.
_COSTS = {
    RAW: (78, 6640, 39, 3860, 39, 3860, 115, 11720, 67, 7000, 78, 8220),
    ORDINARY: (68, 6500, 37, 4112, 37, 4112, 159, 15416, 62, 7140, 67, 7810),
    OPINION: (123, 8360, 78, 5316, 78, 5316, 189, 14496, 109, 8580, 120, 10620),
    WIDE: (802, 50120, 767, 47540, 767, 47540, 1571, 99080, 800, 50960, 802, 66190),
    SWEEP: (79, 6700, 39, 3860, 39, 3860, 115, 11720, 70, 7130, 78, 8220),
}
BUDGET = {
    mode.name: dict(zip(ADDRESSES, map(Cost, numbers[::2], numbers[1::2]), strict=False))
    for mode, numbers in _COSTS.items()
}


@dataclass(frozen=True, slots=True)
class Scans:
    """What the witness saw of one mode, and what the scans left behind."""

    mode: Mode
    record: Record
    packets: tuple[Packet, ...]
    connections: tuple[Connection, ...]
    bundles: dict[str, Path]

    def sent(self, address: str) -> list[Packet]:
        """What went to one address."""
        return [one for one in self.packets if one.ours and one.destination == address]

    def keys(self) -> str:
        """The keys of all TLS sessions, as the bundles hold them."""
        return "".join(_member(path, "tls-keys.txt") for path in self.bundles.values())

    def recorded(self, address: str, port: int) -> bytes:
        """What the product wrote down that it said to a TCP port, TLS taken off."""
        site = next(name for name, known in ADDRESSES.items() if known == address)
        mine = (one for one in self._scan(site)["evidence"] if one["kind"] == "tcp" and one["port"] == port)
        return b"".join(unescape(one["sent"]) for one in mine)

    def lag_ms(self, site: str) -> float:
        """How late the program was at worst while it scanned the site."""
        return float(self._scan(site)["lag_ms"])

    def _scan(self, site: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(_member(self.bundles[site], "scan.json"))
        return found


def _member(bundle: Path, name: str) -> str:
    with zipfile.ZipFile(bundle) as opened:
        return opened.read(name).decode() if name in opened.namelist() else ""


def scanned(mode: Mode, folder: Path) -> Scans:
    """Scan every site in this mode, all at once, and wait until all connections have ended.

    Raises:
        AssertionError: a scan ended otherwise than it has to.
    """
    folder.mkdir()
    sites = folder / "sites.toml"
    sites.write_text(_sites(mode))
    bundles = {name: folder / f"{name}.zip" for name in ADDRESSES}
    calls = [
        (name, ["scan", "--site", name, "--sites", str(sites), "--quiet", "--evidence", str(bundles[name])])
        for name in ADDRESSES
    ]
    if mode is SWEEP:
        out = folder / "out"
        bundles = {name: out / name / "evidence.zip" for name in ADDRESSES}
        words = ["--sites", str(sites), "--db", f"sqlite:///{folder}/h.db", "--out", str(out), "--all", "--no-mail"]
        calls = [("exposed-server", ["sweep", *words, "--rate", f"{mode.total:g}"])]
    with witnessed() as record:
        exits = _run([[*words, *mode.options] for _, words in calls], mode.patch)
    assert exits == [EXITS[name] for name, _ in calls]
    packets = tuple(record.packets())
    return Scans(mode, record, packets, tuple(connections(packets)), bundles)


def _sites(mode: Mode) -> str:
    text = lab.sites_file().read_text()
    if "exposed-server-6" in ADDRESSES:
        text += _SIX
    if mode is WIDE:  # then the moved voicemail is found among the ports that are knocked at
        text = text.replace("voicemail = { smtp = 2525, imap = 1143 }\n", "")
    return text.replace("[[site]]\n", f"[[site]]\npackets_per_second = {mode.rate:g}\nburst = {mode.burst}\n")


def _run(calls: Sequence[Sequence[str]], patch: str = "") -> list[int]:
    program = [sys.executable, "-c", _PROGRAM.format(patch)]
    nowhere = subprocess.DEVNULL
    running = [subprocess.Popen([*program, *words], cwd=ROOT, stdout=nowhere) for words in calls]
    try:
        return [one.wait(SECONDS) for one in running]
    finally:
        for one in running:
            one.kill()
            one.wait()


def named(folder: Path, name: str, resolver: str) -> Record:
    """Scan one port of a name that the resolver at this address knows."""
    patch = f"""
import io
import dns.resolver
read = dns.resolver.BaseResolver.read_resolv_conf
dns.resolver.BaseResolver.read_resolv_conf = lambda self, _: read(self, io.StringIO("nameserver {resolver}"))
"""
    words = ["scan", name, "--authorized-by", "practice site", "--ports", "tcp/25", "--quiet"]
    with witnessed() as record:
        assert _run([words], patch) == [1]
    return record


# --- inside TLS -----------------------------------------------------------------------------------


def inside_tls(scans: Scans, folder: Path, sessions: Sequence[Connection]) -> list[bytes]:
    """What tshark reads that we said in each of these TLS sessions, by the witness's packets and the bundles' keys."""
    capture, keys = folder / "seen.pcap", folder / "keys.txt"
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    capture.write_bytes(
        head
        + b"".join(
            struct.pack("<IIII", int(at), int(at % 1 * 1_000_000), len(raw), len(raw)) + raw
            for at, raw in scans.record.raw
        )
    )
    keys.write_text(scans.keys())
    command = ["tshark", "-n", "-q", "-r", str(capture), "-o", f"tls.keylog_file:{keys}", "-d", "tcp.port==1143,imap"]
    for one in sessions:
        host = f"[{one.host}]" if ":" in one.host else one.host
        command += ["-z", f"follow,tls,raw,{host}:{one.local_port},{host}:{one.port}"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=60)
    found: dict[int, bytes] = {}
    for part in done.stdout.split("Follow: tls,raw")[1:]:
        lines = part.splitlines()
        local_port = int(lines[1].partition("tcp.srcport eq ")[2].partition(")")[0])  # the filter that we gave
        first_is_ours = lines[2].endswith(f":{local_port}")  # whose lines are not set in
        ours = [line.strip() for line in lines if line.startswith("\t") is not first_is_ours]
        found[local_port] = b"".join(bytes.fromhex(line) for line in ours if _is_hex(line))
    return [found[one.local_port] for one in sessions]


def _is_hex(text: str) -> bool:
    return bool(text) and all(char in "0123456789abcdef" for char in text)


WHY_NOT = {
    OPINION: "" if shutil.which("nmap") else "nmap is not installed (tests/install_servers.sh)",
}
