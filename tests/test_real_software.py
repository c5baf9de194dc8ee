"""Real servers of Debian 12, scanned end to end: each is recognised and named, and none is taken for the vendor's.

What is not installed is skipped, by name: tests/install_servers.sh installs it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import real_servers as real
from real_processes import NAME, Place, Unavailable, place

from exposure_scan import scope, sweep
from exposure_scan.model import Device, DeviceClass, Host, Port, PortState, Scan
from exposure_scan.transport import Gate

ALLWORX = {DeviceClass.SERVER, DeviceClass.HANDSET, DeviceClass.PX, DeviceClass.ALLWORX}


class Is(NamedTuple):
    """What an open port must come out as."""

    service: str
    product: str | None
    tls: str | None = None  # the version


@dataclass(frozen=True, slots=True)
class Case:
    """Servers that share a host, and what is to be seen of them."""

    servers: tuple[Callable[[Place], AbstractContextManager[None]], ...]
    ports: dict[str, Is]
    plan: str | tuple[str, ...] = "default"
    voicemail: str | None = None


KAMAILIO = {
    "udp/5060": Is("sip", "Kamailio"),
    "tcp/5060": Is("sip", "Kamailio"),
    "tcp/5061": Is("sip", "Kamailio", "TLSv1.3"),
}
BARESIP = {
    "udp/5060": Is("sip", "baresip"),
    "tcp/5060": Is("sip", "baresip"),
    "tcp/5061": Is("sip", "baresip", "TLSv1.3"),
}
NGINX = {
    "tcp/80": Is("http", "nginx"),
    "tcp/8080": Is("http", "nginx"),
    "tcp/443": Is("http", "nginx", "TLSv1.2"),
    "tcp/8443": Is("http", "nginx", "TLSv1.3"),
}
VSFTPD = {"tcp/21": Is("ftp", "vsftpd")}
SNMPD = {"udp/161": Is("snmp", None)}
POSTFIX = {
    "tcp/25": Is("smtp", "Postfix", "TLSv1.3"),
    "tcp/587": Is("smtp", "Postfix", "TLSv1.3"),
    "tcp/465": Is("smtp", "Postfix", "TLSv1.3"),
}
DOVECOT = {
    "tcp/143": Is("imap", "Dovecot", "TLSv1.3"),
    "tcp/993": Is("imap", "Dovecot", "TLSv1.3"),
    "tcp/110": Is("pop3", "Dovecot", "TLSv1.3"),
    "tcp/995": Is("pop3", "Dovecot", "TLSv1.3"),
}
EXIM = {"tcp/25": Is("smtp", "Exim", "TLSv1.3")}
COURIER = {"tcp/143": Is("imap", "Courier", "TLSv1.3"), "tcp/110": Is("pop3", "Courier", "TLSv1.3")}
MOVED = {"tcp/2525": Is("smtp", "Postfix"), "tcp/1143": Is("imap", "Dovecot", "TLSv1.3")}

postfix = partial(real.postfix, ports={25: "starttls", 587: "starttls", 465: "tls"})
dovecot = partial(real.dovecot, imap={143: "starttls", 993: "tls"}, pop3={110: "starttls", 995: "tls"})
moved = (partial(real.postfix, ports={2525: "clear"}), partial(real.dovecot, imap={1143: "starttls"}, pop3={}))

CASES = {
    "kamailio": Case((real.kamailio,), KAMAILIO),
    "baresip": Case((real.baresip,), BARESIP),
    "nginx": Case((real.nginx,), NGINX),
    "vsftpd": Case((real.vsftpd,), VSFTPD),
    "snmpd": Case((real.snmpd,), SNMPD),
    "postfix": Case((postfix,), POSTFIX),
    "dovecot": Case((dovecot,), DOVECOT),
    "exim": Case((real.exim,), EXIM),
    "courier": Case((real.courier,), COURIER),
    "moved-declared": Case(moved, MOVED, voicemail="smtp=2525,imap=1143"),
    "moved-listed": Case(moved, MOVED, plan=("tcp/2525", "tcp/1143")),
    "all-on-one-host": Case(
        (real.kamailio, real.nginx, real.vsftpd, real.snmpd, postfix, dovecot),
        KAMAILIO | NGINX | VSFTPD | SNMPD | POSTFIX | DOVECOT,
    ),
}

# Where the servers tell their version, and how it stands there.
VERSIONS = {
    "Kamailio": ("sip.server", r"^kamailio \((\d\S+) "),
    "baresip": ("sip.server", r"^baresip v(\d\S+) "),
    "nginx": ("http.server", r"^nginx/(\d\S+)$"),
    "vsftpd": ("ftp.greeting", r"^220 \(vsFTPd (\d\S+)\)$"),
    "Exim": ("smtp.greeting", r" ESMTP Exim (\d\S+) "),
}


@dataclass(frozen=True, slots=True)
class Seen:
    """A case after its scan; the servers have ended."""

    case: Case
    place: Place
    result: sweep.Result

    @property
    def scan(self) -> Scan:
        """What was made of it."""
        return self.result.scan

    @property
    def open(self) -> Iterator[tuple[Host, Port]]:
        """The open ports of each address."""
        return ((host, port) for host in self.scan.hosts for port in host.ports if port.state is PortState.OPEN)


@pytest.fixture(scope="module", params=CASES)
def seen(request: pytest.FixtureRequest) -> Seen:
    case: Case = CASES[request.param]
    words: scope.Words = {"voicemail_ports": case.voicemail} if case.voicemail else {}
    with ExitStack() as stack:
        where = stack.enter_context(place(20 + [*CASES].index(request.param)))
        try:
            for server in case.servers:
                stack.enter_context(server(where))
        except Unavailable as missing:
            pytest.skip(str(missing))
        order = scope.order_from_words(list(where.addresses), authorized_by="practice site", **words)
        result = asyncio.run(sweep.scan_site(order, ports=case.plan))
    return Seen(case, where, result)


def test_every_service_is_recognised_and_named_at_each_address(seen: Seen) -> None:
    assert tuple(host.address for host in seen.scan.hosts) == seen.place.addresses
    for host in seen.scan.hosts:
        found = {port.key: (port.service, _told(port)) for at, port in seen.open if at is host}
        named = {key: (expected.service, expected.product) for key, expected in seen.case.ports.items()}
        assert found == named, host.address


def _told(port: Port) -> str | None:
    """The product; not of an SNMP engine, which tells its maker's number and no more (a test of its own, below)."""
    return None if port.service == "snmp" else port.product


def test_a_version_that_the_server_tells_is_read(seen: Seen) -> None:
    read = 0
    for _, port in seen.open:
        if port.product in VERSIONS:
            field, form = VERSIONS[port.product]
            told = re.search(form, port.said[field])
            assert told is not None, port.said[field]
            assert port.device is not None
            assert port.device.version == told[1]
            read += 1
    products = [expected.product for expected in seen.case.ports.values()] * len(seen.place.addresses)
    assert read == sum(product in VERSIONS for product in products)


def test_nothing_is_taken_for_the_vendor_s(seen: Seen) -> None:
    for host in seen.scan.hosts:
        devices: list[Device | None] = [host.device, *host.also, *(port.device for port in host.ports)]
        assert not [device for device in devices if device is not None and device.class_ in ALLWORX]
        assert not [port.product for port in host.ports if port.product and "allworx" in port.product.lower()]
        if any(expected.product for expected in seen.case.ports.values()):
            assert host.device.class_ is DeviceClass.OTHER


def test_the_facts_of_tls_are_read_and_clear_text_has_none(seen: Seen) -> None:
    for host, port in seen.open:
        found = port.tls and (port.tls.version, port.tls.subject, port.tls.self_signed, port.tls.names)
        version = seen.case.ports[port.key].tls
        expected = version and (version, f"CN={NAME}", True, (NAME,))
        assert found == expected, f"{host.address} {port.key}"


def test_the_saved_evidence_gives_the_same_again(seen: Seen) -> None:
    assert sweep.differences(seen.scan, sweep.rederive(seen.scan)) == []


def test_the_packets_say_what_the_record_says(seen: Seen) -> None:
    assert seen.scan.capture == "wire"
    assert sweep.disagreements(seen.scan, seen.result.capture, "capture") == []


def in_the_tunnels(result: sweep.Result, folder: Path) -> Counter[str]:
    """The Server words that tshark reads inside TLS, with the keys that lie beside the capture."""
    assert result.capture is not None
    (folder / "c.pcap").write_bytes(result.capture)
    (folder / "keys.txt").write_text(result.keys)
    words = [
        "-r",
        "c.pcap",
        "-o",
        "tls.keylog_file:keys.txt",
        "-Y",
        "tls && http.response",
        "-T",
        "fields",
        "-e",
        "http.server",
    ]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    ended = subprocess.run(["tshark", *words], cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return Counter(ended.stdout.split())


@pytest.mark.skipif(shutil.which("tshark") is None, reason="Debian's package tshark is not there")
@pytest.mark.parametrize("how", ["wire", "transcript"])
def test_anybody_opens_the_sessions_with_the_keys(how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if how == "transcript":
        monkeypatch.setattr(Gate, "packet_capture", lambda _: None)
    with place(51) as where:
        try:
            with real.nginx(where):
                order = scope.order_from_words(list(where.addresses), authorized_by="practice site")
                result = asyncio.run(sweep.scan_site(order, ports=("tcp/443", "tcp/8443")))
        except Unavailable as missing:
            pytest.skip(str(missing))
    assert result.scan.capture == how
    assert sweep.disagreements(result.scan, result.capture, "capture") == []
    told = Counter(port.said["http.server"] for host in result.scan.hosts for port in host.ports if port.tls)
    assert sum(told.values()) == 4
    assert in_the_tunnels(result, tmp_path) == told


def test_an_snmp_engine_tells_who_made_it(seen: Seen) -> None:
    numbers = [port.said["snmp.enterprise"] for _, port in seen.open if port.key == "udp/161"]
    asked = len(seen.place.addresses) if "udp/161" in seen.case.ports else 0
    assert numbers == ["8072"] * asked, "Net-SNMP's number, not the vendor's"


def test_the_servers_are_gone_with_all_that_they_wrote(seen: Seen) -> None:
    assert not seen.place.folder.exists()
    assert _living(seen.place.folder) == []


def test_a_server_ends_where_a_test_fails() -> None:
    def fail(where: Place) -> None:
        with real.nginx(where):
            assert len(_living(where.folder)) >= 2, "nginx and its worker"
            raise RuntimeError("failing")

    with place(50) as where:
        try:
            with pytest.raises(RuntimeError, match="failing"):
                fail(where)
        except Unavailable as missing:
            pytest.skip(str(missing))
        assert _living(where.folder) == []
    assert not where.folder.exists()


def _living(folder: Path) -> list[str]:
    """The processes that stand in the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            where = os.readlink(process / "cwd")
        except OSError:
            continue
        if folder.name in where:
            found.append(f"{process.name} {(process / 'comm').read_text().strip()}")
    return found
