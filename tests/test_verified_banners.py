"""Every verified banner makes the scanner say whose it is: over real sockets, on any port, over IPv4 and IPv6."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

import pytest
from conversations import snmp_answer
from peers import HOST, HOST6, own_addresses

from exposure_scan import scope, sweep
from exposure_scan.lab.devices import DEVICES, Device, Service
from exposure_scan.lab.services import serve
from exposure_scan.model import DeviceClass, Scan

HEAD = b"Accept-Ranges: none\r\nConnection: close\r\nContent-Encoding: identity\r\n"


@dataclass(frozen=True)
class Fact:
    """A banner of the facts page and what it makes of the port; literal parts are verified, host names are ours."""

    id: str
    speaks: Literal["smtp", "pop3", "http"]
    words: bytes
    class_: DeviceClass


def _practice(site: str, port: int) -> bytes:
    device = next(device for device in DEVICES if device.name == site)
    return next(service.words for service in device.services if service.port == port)


FACTS = (
    Fact("F1", "smtp", b"220 h.invalid InSciTek OIS Ready here ESMTP\r\n", DeviceClass.SERVER),
    Fact("F2", "pop3", b"+OK POP3 Server h.invalid (InSciTek OIS) ready <1.2@h.invalid>\r\n", DeviceClass.SERVER),
    Fact("F3", "http", _practice("remote-handset", 80), DeviceClass.HANDSET),
    Fact("F4", "http", _practice("exposed-server", 80), DeviceClass.SERVER),
    Fact("F5", "http", _practice("exposed-server", 8080), DeviceClass.ALLWORX),
    Fact(
        "F6",
        "http",
        b"HTTP/1.0 404 Not Found\r\n" + HEAD + b"Content-Length: 0\r\nContent-Type: text/plain\r\nServer: IST OIS\r\n"
        b'WWW-Authenticate: Digest realm="users@h.invalid", nonce="0"\r\n\r\n',
        DeviceClass.SERVER,
    ),
)
PORTS = {
    fact.id: 20100 + number for number, fact in enumerate(FACTS)
}  # nobody's, and no socket of this machine draws them


@pytest.fixture(scope="module")
def scans() -> dict[str, Scan]:
    own_addresses()
    services = tuple(Service("tcp", PORTS[fact.id], fact.speaks, fact.words) for fact in FACTS)
    device = Device("facts", HOST, (HOST, HOST6), services)

    async def scan_both() -> dict[str, Scan]:
        async with serve([device]):
            found = {}
            for address in (HOST, HOST6):
                order = scope.order_from_words([address], authorized_by="a test")
                keys = tuple(f"tcp/{port}" for port in PORTS.values())
                found[address] = (await sweep.scan_site(order, ports=keys)).scan
            return found

    return asyncio.run(scan_both())


@pytest.mark.parametrize("address", [HOST, HOST6])
@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.id)
def test_a_verified_banner_is_known_on_any_port(scans: dict[str, Scan], fact: Fact, address: str) -> None:
    scan = scans[address]
    port = next(port for port in scan.hosts[0].ports if port.port == PORTS[fact.id])
    assert port.device is not None
    assert (port.service, port.device.class_) == (fact.speaks, fact.class_)
    assert port.device.confidence >= 0.9
    assert port.device.against == ()


@pytest.mark.parametrize("address", [HOST, HOST6])
def test_each_claim_leads_to_the_bytes_that_made_it(scans: dict[str, Scan], address: str) -> None:
    scan = scans[address]
    received = {proof.id: proof.received for proof in scan.evidence}
    devices = (scan.hosts[0].device, *scan.hosts[0].also)
    assert {device.class_ for device in devices} == {DeviceClass.SERVER, DeviceClass.HANDSET}
    supports = [support for device in devices for support in device.support]
    assert supports
    for support in supports:
        assert any(support.value in received[id_] for id_ in support.evidence), support
        assert support.source


class _Agent(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(snmp_answer(data), addr)


@pytest.mark.parametrize("address", [HOST, HOST6])
def test_the_enterprise_number_of_an_snmp_engine_tells_the_family_without_a_community(address: str) -> None:
    own_addresses()

    async def scan() -> Scan:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(_Agent, local_addr=(address, 161))
        try:
            order = scope.order_from_words([address], authorized_by="a test")
            return (await sweep.scan_site(order, ports=("udp/161",))).scan
        finally:
            transport.close()

    found = asyncio.run(scan())
    device = found.hosts[0].device
    assert (device.class_, device.confidence) == (DeviceClass.ALLWORX, 0.9)
    assert [support.value for support in device.support] == ["38516"]
    sent = "".join(proof.sent for proof in found.evidence)
    assert "public" not in sent
    assert "private" not in sent
