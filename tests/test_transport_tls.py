"""TLS over the gate's sockets, with certificates made here."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import peers
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from peers import CONNECT, HOST, Serve, admitted, ask, everything, line, probe, run, script

from exposure_scan.conversation import Send, StartTls
from exposure_scan.model import PortState


@pytest.fixture(scope="module", autouse=True)
def own_addresses() -> None:
    peers.own_addresses()


class Server:
    """A self-signed certificate, and the server's side of TLS with it."""

    def __init__(self, folder: Path, key_size: int = 2048) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=key_size)
        name = x509.Name.from_rfc4514_string("CN=pbx.synthetic.invalid")
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(1).not_valid_before(datetime(2010, 1, 1, tzinfo=UTC))
        certificate = builder.not_valid_after(datetime(2010, 1, 2, tzinfo=UTC)).sign(key, hashes.SHA256())
        self.der = certificate.public_bytes(serialization.Encoding.DER)
        self.path = folder / "server.pem"
        self.path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )

    def context(self, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if version is not None:
            context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = context.maximum_version = version
        context.load_cert_chain(self.path)  # after the ciphers: their level decides which keys may be used
        return context


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    return Server(tmp_path_factory.mktemp("tls"))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.readline():
        writer.write(b"heard " + data)


@pytest.mark.parametrize(
    ("version", "name"),
    [
        (None, "TLSv1.3"),
        (ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        (ssl.TLSVersion.TLSv1_1, "TLSv1.1"),
        (ssl.TLSVersion.TLSv1, "TLSv1"),
    ],
)
def test_a_session_stands_with_any_certificate_and_shows_it(
    server: Server, version: ssl.TLSVersion | None, name: str
) -> None:
    async def main() -> None:
        gate, whom = admitted()
        talk = script(CONNECT, StartTls(5), Send(b"one\n"), line(), Send(b"two\n"), line(), everything(0.5))
        async with peers.serving(echo, ssl=server.context(version)) as port:
            exchange = await ask(gate, whom, "tcp", port, talk)
        notes = exchange.observation.notes
        assert notes[1] == f"secured {name} {server.der.hex()}"
        assert notes[2:] == (r"enough b'heard one\n'", r"enough b'heard two\n'", "silent b''")
        words = b"".join(event.data for event in exchange.events if event.what == "sent")
        assert words == b"one\ntwo\n"  # the record holds the plain text

    run(main())


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("pbx.synthetic.invalid", "pbx.synthetic.invalid"),
        ("pbx.synthetic.invalid.", "pbx.synthetic.invalid"),
        (HOST, None),
        ("bad name\r\n", None),
        (None, None),
    ],
)
def test_only_a_name_that_may_stand_there_is_sent(server: Server, asked: str | None, shown: str | None) -> None:
    names: list[str | None] = []

    async def main() -> None:
        gate, whom = admitted()
        context = server.context()
        context.sni_callback = lambda _, name, __: names.append(name)
        async with peers.serving(echo, ssl=context) as port:
            exchange = await ask(gate, whom, "tcp", port, script(CONNECT, StartTls(5, asked)))
        assert exchange.observation.notes[1].startswith("secured")

    run(main())
    assert names == [shown]


def mail(server: Server, *, offers: bool = True, begins: bool = True) -> Serve:
    """A mail server with STARTTLS. Synthetic."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 pbx.synthetic.invalid ESMTP\r\n")
        while words := await reader.readline():
            if words.startswith(b"EHLO"):
                writer.write(b"250-pbx.synthetic.invalid\r\n250-STARTTLS\r\n250 HELP\r\n")
            elif words.startswith(b"STARTTLS") and not offers:
                writer.write(b"454 not now\r\n")
            elif words.startswith(b"STARTTLS"):
                writer.write(b"220 go on\r\n")
                await writer.drain()
                if not begins:
                    writer.write(b"500 what is this?\r\n")
                    await peers.wait_for_end(reader)
                    return
                await writer.start_tls(server.context())
            else:
                writer.write(b"221 bye\r\n")

    return serve


def test_starttls_with_the_words_that_a_scan_uses(server: Server) -> None:
    async def main() -> None:
        gate, whom = admitted()
        async with peers.serving(mail(server)) as port:
            exchange = await ask(gate, whom, "tcp", port, probe("greeting"))
        seen = exchange.observation
        assert (seen.service, seen.valid) == ("smtp", True)
        assert seen.tls is not None
        assert (seen.tls.subject, seen.tls.self_signed) == ("CN=pbx.synthetic.invalid", True)

    run(main())


@pytest.mark.parametrize("options", [{"offers": False}, {"begins": False}], ids=["refused", "garbage"])
def test_starttls_that_comes_to_nothing_leaves_the_mail_server(server: Server, options: dict[str, bool]) -> None:
    async def main() -> None:
        gate, whom = admitted()
        async with peers.serving(mail(server, **options)) as port:
            exchange = await ask(gate, whom, "tcp", port, probe("greeting"))
        assert (exchange.observation.service, exchange.observation.tls) == ("smtp", None)

    run(main())


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"HTTP/1.0 400 this is no TLS\r\n\r\n")
    await peers.wait_for_end(reader)


async def an_alert(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(bytes.fromhex("15030100020228"))  # fatal, handshake_failure
    await peers.wait_for_end(reader)


async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await peers.wait_for_end(reader)


async def half_a_record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes.fromhex("1603030400"))
    await peers.wait_for_end(reader)


async def empty_records(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(bytes.fromhex("160303000417030300"))
        await writer.drain()
        await asyncio.sleep(0)


async def crawl(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes.fromhex("160303000402004000"))  # a ServerHello of 16 KB
    while True:
        writer.write(bytes.fromhex("160303000100"))  # byte by byte
        await writer.drain()
        await asyncio.sleep(0.002)


async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)
    writer.close()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)
    peers.tear_down(writer)


@pytest.mark.parametrize(
    ("serve", "reason"),
    [
        (garbage, "WRONG_VERSION_NUMBER"),
        (an_alert, "SSLV3_ALERT_HANDSHAKE_FAILURE"),
        (nothing, "no-response"),
        (half_a_record, "no-response"),
        (empty_records, None),
        (crawl, "no-response"),
        (close, "UNEXPECTED_EOF|EOF|closed"),
        (reset, "reset"),
    ],
)
def test_a_handshake_that_fails_says_why_and_ends_the_connection(serve: Serve, reason: str | None) -> None:
    async def main() -> None:
        gate, whom = admitted()
        talk = script(CONNECT, StartTls(0.5), Send(b"not in plain text"), everything(), CONNECT)
        async with peers.serving(serve) as port:
            exchange = await ask(gate, whom, "tcp", port, talk)
        assert exchange.state is PortState.OPEN
        notes = exchange.observation.notes
        assert notes[1].startswith("not secured: ")
        assert "\n" not in notes[1]
        if reason is not None:
            assert notes[1].removeprefix("not secured: ").startswith(tuple(reason.split("|")))
        assert notes[2] == "closed b''"
        assert notes[3].startswith("connected")  # another way of talking gets a fresh connection
        assert not any(event.what == "sent" for event in exchange.events)

    run(main())


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x" * 16384)
        await writer.drain()


async def speak_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 last words")
    writer.close()


async def speak_and_reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 last words\n")
    await reader.readline()
    peers.tear_down(writer)


@pytest.mark.parametrize(
    ("serve", "first", "second"),
    [
        (nothing, "silent b''", "silent b''"),
        (endless, f"limit {b'x' * 4096!r}", f"limit {b'x' * 4096!r}"),
        (speak_and_close, "closed b'220 last words'", "closed b''"),
        (speak_and_reset, r"enough b'220 last words\n'", "reset b''"),
    ],
)
def test_whatever_a_peer_does_inside_tls_is_told(server: Server, serve: Serve, first: str, second: str) -> None:
    async def main() -> None:
        gate, whom = admitted()
        talk = script(CONNECT, StartTls(5), line(), Send(b"a word\n"), line())
        async with peers.serving(serve, ssl=server.context()) as port:
            exchange = await ask(gate, whom, "tcp", port, talk)
        assert exchange.observation.notes[2:] == (first, second)

    run(main())


@pytest.mark.parametrize("spoil", [lambda cipher: b"\x17\x03\x03\x00\x10" + b"?" * 16, lambda cipher: b"plain words\n"])
def test_a_session_that_is_spoilt_in_the_middle_is_a_reset(server: Server, spoil: Callable[[bytes], bytes]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        plain = writer.get_extra_info("socket")
        await reader.readline()
        plain._sock.send(spoil(b""))
        await peers.wait_for_end(reader)

    async def main() -> None:
        gate, whom = admitted()
        talk = script(CONNECT, StartTls(5), Send(b"a word\n"), line(), Send(b"another\n"), line())
        async with peers.serving(serve, ssl=server.context()) as port:
            exchange = await ask(gate, whom, "tcp", port, talk)
        assert exchange.observation.notes[2] == "reset b''"

    run(main())


def test_tls_inside_tls_is_refused_and_the_session_goes_on(server: Server) -> None:
    async def main() -> None:
        gate, whom = admitted()
        talk = script(CONNECT, StartTls(5), StartTls(5), Send(b"a word\n"), line())
        async with peers.serving(echo, ssl=server.context()) as port:
            exchange = await ask(gate, whom, "tcp", port, talk)
        assert exchange.observation.notes[2] == "not secured: TLS stands already"

    run(main())


def test_a_goodbye_is_said(server: Server) -> None:
    async def main() -> None:
        gate, whom = admitted()
        async with peers.wire() as seen, peers.serving(nothing, ssl=server.context(ssl.TLSVersion.TLSv1_2)) as port:
            await ask(gate, whom, "tcp", port, script(CONNECT, StartTls(5)))
            ours = [packet for packet in seen.to(HOST) if packet[22:24] == port.to_bytes(2)]
        payloads = [packet[20 + (packet[32] >> 4) * 4 :] for packet in ours]
        assert payloads[-1] == b"" or payloads[-1][0] == 21  # the end of the stream, perhaps with the alert
        assert any(payload[:1] == b"\x15" for payload in payloads)

    run(main())


# --- what old gear speaks ------------------------------------------------------------------------


async def ssl_3(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A ServerHello of SSL 3.0 (RFC 6101): no library of today begins that session."""
    await reader.read(1000)
    hello = bytes.fromhex("0300") + bytes(32) + b"\x00" + bytes.fromhex("000a00")
    record = b"\x02" + len(hello).to_bytes(3) + hello
    writer.write(bytes.fromhex("160300") + len(record).to_bytes(2) + record)
    await peers.wait_for_end(reader)


async def an_alert_about_the_version(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1000)
    writer.write(bytes.fromhex("15030100020246"))  # fatal, protocol_version
    await peers.wait_for_end(reader)


@pytest.mark.parametrize(
    ("serve", "reason"),
    [(ssl_3, "UNSUPPORTED_PROTOCOL"), (an_alert_about_the_version, "TLSV1_ALERT_PROTOCOL_VERSION")],
)
def test_a_version_that_the_library_refuses_is_told_in_the_record(serve: Serve, reason: str) -> None:
    async def main() -> None:
        gate, whom = admitted()
        async with peers.serving(serve) as port:
            exchange = await ask(gate, whom, "tcp", port, script(CONNECT, StartTls(5)))
        (refused,) = (event for event in exchange.events if event.what == "not-secured")
        assert refused.detail == reason

    run(main())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_2])
def test_a_weak_key_keeps_no_certificate_from_being_read(tmp_path: Path, version: ssl.TLSVersion) -> None:
    weak = Server(tmp_path, key_size=1024)

    async def main() -> None:
        gate, whom = admitted()
        async with peers.serving(echo, ssl=weak.context(version)) as port:
            exchange = await ask(gate, whom, "tcp", port, script(CONNECT, StartTls(5)))
        assert exchange.observation.notes[1].endswith(weak.der.hex())

    run(main())
