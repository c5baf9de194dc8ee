"""The open sites of the closed network: one process that serves all their addresses, in the practice site's words."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

from exposure_scan.lab import answers
from exposure_scan.lab.devices import Device, Service
from exposure_scan.lab.services import _Server, _tls

_HOST = Device("exposed-server", "0.0.0.0", ("0.0.0.0",))  # every address that is led here; the name is its host name
_IP_PKTINFO = 8  # linux/in.h
_BACKLOG = 65535
_SLICE = 256  # datagrams before others get their turn


class _Site(_Server):
    """A service of the practice site that also offers STARTTLS for SMTP (RFC 3207): synthetic words."""

    def _answer(self, line: bytes, secured: bool) -> answers.Answer:
        if self.service.speaks == "smtp" and self.service.starttls and not secured:
            verb = line.split(b" ", 1)[0].upper()
            if verb == b"EHLO":
                return answers.Answer(f"250-{self.device.host}\r\n250-STARTTLS\r\n250 8BITMIME\r\n".encode())
            if verb == b"STARTTLS":
                return answers.Answer(b"220 begin TLS\r\n", "tls")
        return super()._answer(line, secured)


def serve(services: Sequence[Service], ready: Callable[[], object]) -> None:
    """Serve them at every address, for ever; calls `ready` when all listen.

    Raises:
        OSError: a port is not to be had.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(_serve(services, ready))


async def _serve(services: Sequence[Service], ready: Callable[[], object]) -> None:
    tls = _tls(_HOST.host)
    servers = []
    for service in services:
        if service.transport == "udp":
            _sip_datagrams(service.port)
            continue
        site = _Site(_HOST, service, tls)
        over = tls if service.transport == "tls" else None
        servers.append(await asyncio.start_server(site.connected, "0.0.0.0", service.port, ssl=over, backlog=_BACKLOG))
    ready()
    await asyncio.Event().wait()


def _sip_datagrams(port: int) -> None:
    """Answer SIP at every address, each from its own."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sock.bind(("0.0.0.0", port))

    def read() -> None:
        for _ in range(_SLICE):
            try:
                data, ancillary, _, peer = sock.recvmsg(65535, 64)
            except BlockingIOError:
                return
            except OSError:
                continue
            asked = next((value[8:12] for _, kind, value in ancillary if kind == _IP_PKTINFO), None)
            if asked is None:
                continue
            own = (socket.inet_ntoa(asked), port)
            answer = answers.sip(data, peer=peer[:2], own=own, transport="udp")
            if answer:
                source = [(socket.IPPROTO_IP, _IP_PKTINFO, bytes(4) + asked + bytes(4))]
                with suppress(OSError):  # who asked may not be there any more, or not have been
                    sock.sendmsg([answer], source, 0, peer)

    asyncio.get_running_loop().add_reader(sock.fileno(), read)
