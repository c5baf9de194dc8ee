"""The practice devices' sockets: each service listens at its own device's address, and nowhere else.

What is said stands in `answers` and `devices`; here are reading with bounds, TLS, and the process that
the lab runs in. Nothing is logged, and a peer that talks nonsense only ends its own conversation.

``python -m exposure_scan.lab.services`` serves the devices until its standard input closes.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from threading import Thread

from . import answers
from .devices import DEVICES, Device, Service

IDLE_SECONDS = 30.0  # without a word from the peer
LINE_LIMIT = 1000  # bytes of one command; longer than RFC 5321 asks for
HEAD_LIMIT = 8192  # bytes of one request or message
TALK_LIMIT = 65536  # bytes of one conversation


class _Over(Exception):  # noqa: N818 - not an error
    """The peer has left, stayed silent too long, or said too much."""


@dataclass(slots=True)
class _Talk:
    """One connection: pieces of the stream, within bounds."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    buffer: bytes = b""
    total: int = 0

    async def until(self, mark: bytes, limit: int) -> bytes:
        """Everything up to and with `mark`."""
        while mark not in self.buffer:
            if len(self.buffer) > limit:
                raise _Over
            await self._more()
        piece, _, self.buffer = self.buffer.partition(mark)
        return piece + mark

    async def skip(self, count: int) -> None:
        """Drop the next `count` bytes."""
        while len(self.buffer) < count:
            await self._more()
        self.buffer = self.buffer[count:]

    async def say(self, data: bytes) -> None:
        """Send, and wait until the peer takes it."""
        self.writer.write(data)
        await self.writer.drain()

    async def _more(self) -> None:
        async with asyncio.timeout(IDLE_SECONDS):
            data = await self.reader.read(4096)
        self.total += len(data)
        if not data or self.total > TALK_LIMIT:
            raise _Over
        self.buffer += data


@dataclass(slots=True)
class _Server:
    """One service of one device as asyncio calls it, with the connections that it holds."""

    device: Device
    service: Service
    tls: ssl.SSLContext | None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self._talk(_Talk(reader, writer))
            writer.close()
            await writer.wait_closed()
        except (_Over, TimeoutError, OSError, asyncio.CancelledError):
            pass  # how the peer leaves is its own affair; a cancelled task has nothing left to do
        finally:
            writer.close()
            self.tasks.discard(task)

    async def _talk(self, talk: _Talk) -> None:
        if self.service.speaks == "http":
            request = await talk.until(b"\r\n\r\n", HEAD_LIMIT)
            await talk.say(answers.http(request, self.service.words, formatdate(usegmt=True)))
        elif self.service.speaks == "sip":
            await self._sip(talk)
        else:
            await self._lines(talk)

    async def _sip(self, talk: _Talk) -> None:
        peer = talk.writer.get_extra_info("peername")[:2]
        own = talk.writer.get_extra_info("sockname")[:2]
        while True:
            message = (await talk.until(b"\r\n\r\n", HEAD_LIMIT)).lstrip(b"\r\n")  # RFC 3261 7.5
            if message:
                await talk.skip(answers.sip_length(message))
                await talk.say(answers.sip(message, peer=peer, own=own, transport=self.service.transport))

    async def _lines(self, talk: _Talk) -> None:
        await talk.say(self.service.words)
        secured = False
        while True:
            line = (await talk.until(b"\n", LINE_LIMIT)).rstrip(b"\r\n")
            answer = self._answer(line, secured)
            await talk.say(answer.data)
            if answer.then == "bye":
                return
            if answer.then == "tls":
                assert self.tls is not None
                talk.buffer = b""  # what came before TLS must not count as said within it
                await talk.writer.start_tls(self.tls)
                secured = True

    def _answer(self, line: bytes, secured: bool) -> answers.Answer:
        if self.service.speaks == "smtp":
            return answers.smtp(line, self.device.host)
        if self.service.speaks == "imap":
            return answers.imap(line, starttls=self.service.starttls, secured=secured)
        return answers.pop3(line)


class _SipDatagrams(asyncio.DatagramProtocol):
    """SIP over UDP: one datagram, one answer or none."""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        own = self._transport.get_extra_info("sockname")[:2]
        answer = answers.sip(data, peer=addr[:2], own=own, transport="udp")
        if answer:
            self._transport.sendto(answer, addr)


@asynccontextmanager
async def serve(devices: Iterable[Device]) -> AsyncIterator[None]:
    """All services of the devices at all addresses that they own; they listen when the context begins.

    On a kernel without IPv6 the devices have their IPv4 addresses alone.

    Raises:
        OSError: an address or a port is not to be had.
    """
    async with AsyncExitStack() as stack:
        for device in devices:
            needs_tls = any(service.transport == "tls" or service.starttls for service in device.services)
            tls = _tls(device.host) if needs_tls else None
            for address in device.owned:
                for service in device.services:
                    try:
                        await stack.enter_async_context(_listening(device, service, address, tls))
                    except OSError as error:
                        no_ipv6 = error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
                        if not (":" in address and no_ipv6):
                            raise
        yield


@asynccontextmanager
async def _listening(device: Device, service: Service, address: str, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
    if service.transport == "udp":
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(_SipDatagrams, local_addr=(address, service.port))
        try:
            yield
        finally:
            transport.close()
        return
    own = _Server(device, service, tls)
    over_tls = tls if service.transport == "tls" else None
    server = await asyncio.start_server(own.connected, address, service.port, ssl=over_tls)
    try:
        yield
    finally:
        server.close()
        open_talks = list(own.tasks)
        for task in open_talks:
            task.cancel()
        await asyncio.gather(*open_talks, return_exceptions=True)


def _tls(host: str) -> ssl.SSLContext:
    """TLS with a certificate that the device signed itself, fresh in each run and synthetic."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:  # the ssl module reads keys from files alone
        pem = Path(folder, "device.pem")
        pem.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context.load_cert_chain(pem)
    return context


def serve_until_closed() -> int:
    """Serve the practice site: "ready" on standard output when all listen, the end with standard input."""
    try:
        asyncio.run(_serve_until_closed())
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        os.write(2, f"practice site: {error}\n".encode())
        return 1
    return 0


async def _serve_until_closed() -> None:
    async with serve(DEVICES):
        await until_closed()


async def until_closed() -> None:
    """Say "ready" on standard output, and wait for the end of standard input."""
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def watch() -> None:
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(closed.set)

    os.write(1, b"ready\n")
    Thread(target=watch, daemon=True).start()  # a pipe, a file or a terminal: only reading fits them all
    await closed.wait()


if __name__ == "__main__":
    raise SystemExit(serve_until_closed())
