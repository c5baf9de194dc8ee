"""A mail server for the tests: it answers as it is told at each step, and keeps all that it hears.

Its certificate is made here, by an authority of its own, and is good for `localhost` alone.
"""

# ruff: noqa: N802 - aiosmtpd calls its hooks by the protocol's words
from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

NAME = "localhost"
USER, PASSWORD = "sender", "Planted-Secret-äß-4711"  # synthetic
# In the order of a conversation with STARTTLS and a login; BODY is after 354, END after the last dot.
STEPS = ("GREETING", "EHLO", "STARTTLS", "EHLO2", "AUTH", "MAIL", "RCPT", "DATA", "BODY", "END")


class Fault(Enum):
    """What is no answer."""

    CUT = "the connection ends"
    HANG = "nothing comes"
    DRIP = "an answer that never ends comes line by line"


Answer = str | Fault  # "451 4.3.0 later"


class Got(NamedTuple):
    """A message that came whole."""

    connection: int
    sender: str
    recipient: str
    content: bytes


@dataclass
class MailServer:
    """Where it listens, what it is to do, and what it has heard."""

    port: int = 0
    script: dict[str, list[Answer | None]] = field(default_factory=dict)  # by step: one each time; then it is kind
    always: dict[str, Answer] = field(default_factory=dict)  # by step
    recipients: dict[str, str] = field(default_factory=dict)  # answers to RCPT, by address
    got: list[Got] = field(default_factory=list)  # also what it then refused, or said nothing to
    accepted: list[Got] = field(default_factory=list)  # those to which it said 250
    commands: list[tuple[int, str]] = field(default_factory=list)  # connection, verb
    heard: bytearray = field(default_factory=bytearray)  # out of TLS
    logins: list[tuple[str, str]] = field(default_factory=list)
    connections: int = 0

    def verbs(self, connection: int) -> list[str]:
        """What a connection asked, in order."""
        return [verb for number, verb in self.commands if number == connection]

    def next(self, step: str) -> Answer | None:
        """What to do at this step instead of being kind."""
        told = self.script.get(step)
        return told.pop(0) if told else self.always.get(step)


class _Hooks:
    def __init__(self, told: MailServer) -> None:
        self.told = told

    async def handle_RCPT(
        self, server: _Peer, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self.told.recipients.get(address, "250 OK")
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: _Peer, session: Session, envelope: Envelope) -> str:
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        got = Got(server.number, envelope.mail_from or "", ",".join(envelope.rcpt_tos), content)
        self.told.got.append(got)
        answer = self.told.next("END")
        if isinstance(answer, Fault):
            await server.misbehave(answer)
        if answer is None or (isinstance(answer, str) and answer.startswith("2")):
            self.told.accepted.append(got)
        return answer if isinstance(answer, str) else "250 2.0.0 queued"


class _Peer(SMTP):
    """One connection."""

    def __init__(self, told: MailServer, **more: Any) -> None:
        super().__init__(_Hooks(told), **more)
        self.told = told
        self.number = 0
        self.greeted = 0

    def data_received(self, data: bytes) -> None:
        self.told.heard += data
        super().data_received(data)

    async def _handle_client(self) -> None:
        self.told.connections += 1
        self.number = self.told.connections
        answer = self.told.next("GREETING")
        if isinstance(answer, Fault):
            await self.misbehave(answer)
        elif answer is not None:
            await self.push(answer)
            self.close()
        else:
            await super()._handle_client()

    async def misbehave(self, fault: Fault) -> None:
        """Do it; comes back only to an answer that nobody hears."""
        if fault is Fault.HANG:
            await asyncio.Event().wait()  # ends when the client goes
        elif fault is Fault.DRIP:
            for _ in range(20_000):  # more than anybody should read
                await self.push("250-and so on")
                await asyncio.sleep(0)  # the end of the connection has a turn
        self.close()

    def close(self) -> None:
        """End the connection."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """End it at once, under TLS too."""
        for transport in (self.transport, self._original_transport):
            if isinstance(transport, asyncio.Transport):
                transport.abort()

    async def _asked(self, verb: str, arg: str | None, step: str | None = None) -> None:
        self.told.commands.append((self.number, verb))
        answer = self.told.next(step or verb)
        if isinstance(answer, Fault):
            await self.misbehave(answer)
        elif answer is not None:
            await self.push(answer)
            if answer.startswith("421"):
                self.close()
        elif verb != "DATA" or not await self._body_fails():
            await getattr(super(), f"smtp_{verb}")(arg)

    async def _body_fails(self) -> bool:
        answer = self.told.next("BODY")
        if answer is None:
            return False
        await self.push("354 go on")
        await self._reader.readline()
        if isinstance(answer, str):
            await self.push(answer)
            self.close()
        else:
            await self.misbehave(answer)
        return True

    async def smtp_EHLO(self, arg: str) -> None:
        self.greeted += 1
        await self._asked("EHLO", arg, "EHLO" if self.greeted == 1 else "EHLO2")

    async def smtp_STARTTLS(self, arg: str) -> None:
        await self._asked("STARTTLS", arg)

    async def smtp_AUTH(self, arg: str) -> None:
        await self._asked("AUTH", arg)

    async def smtp_MAIL(self, arg: str | None) -> None:
        await self._asked("MAIL", arg)

    async def smtp_RCPT(self, arg: str | None) -> None:
        await self._asked("RCPT", arg)

    async def smtp_DATA(self, arg: str) -> None:
        await self._asked("DATA", arg)

    async def smtp_RSET(self, arg: str) -> None:
        await self._asked("RSET", arg)

    async def smtp_QUIT(self, arg: str) -> None:
        await self._asked("QUIT", arg)


@contextmanager
def serving(*, tls: str = "starttls", login: bool = True) -> Iterator[MailServer]:
    """A server at 127.0.0.1, with "starttls", in "tls" from the start, or with "none"."""
    told = MailServer()
    context = server_context() if tls != "none" else None

    def login_of(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        told.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=told.logins[-1] == (USER, PASSWORD), handled=False)

    peers: list[_Peer] = []

    def peer() -> _Peer:
        made = _Peer(
            told,
            hostname="mail.lab.invalid",
            ident="synthetic mail",
            tls_context=context if tls == "starttls" else None,
            authenticator=login_of if login else None,
            auth_required=login and tls == "starttls",
            auth_require_tls=tls == "starttls",
            enable_SMTPUTF8=True,
            loop=loop,
        )
        peers.append(made)
        return made

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="mail server", daemon=True)
    thread.start()

    def done(coroutine: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, loop)
        return future.result(20)

    async def end() -> None:
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in peers:
            one.abort()
        for _ in range(5):  # the loop closes a transport in its next turns
            await asyncio.sleep(0)

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)  # the kernel keeps little that nobody reads
    listener.bind(("127.0.0.1", 0))
    server = done(loop.create_server(peer, sock=listener, ssl=context if tls == "tls" else None))
    told.port = server.sockets[0].getsockname()[1]
    try:
        yield told
    finally:
        done(end())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


# --- certificates ---------------------------------------------------------------------------------


@cache
def _authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "synthetic authority")])
    builder = _builder(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.sign(key, hashes.SHA256()), key


def _builder(name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
    )


def write_authority(path: Path) -> Path:
    """The authority's certificate, for SSL_CERT_FILE."""
    path.write_bytes(_authority()[0].public_bytes(serialization.Encoding.PEM))
    return path


def write_certificate(path: Path, name: str = NAME) -> Path:
    """A key and a certificate of that authority for a host name, in one file."""
    authority, authority_key = _authority()
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    certificate = (
        _builder(subject, authority.subject, key)
        .add_extension(names, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    return path


@cache
def server_context() -> ssl.SSLContext:
    """TLS of a server called `NAME`."""
    import tempfile

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        context.load_cert_chain(write_certificate(Path(folder, "server.pem")))
    return context
