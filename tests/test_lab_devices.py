"""The practice site over real sockets: what each device says, refuses and keeps silent about.

All questions are asked once, by this file run as a program in a private network of its own, so that
these tests neither need nor disturb a practice site that other tests started.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from exposure_scan import lab
from exposure_scan.lab import answers, services

Heard: TypeAlias = dict[str, str]

SERVER, SERVER6, HANDSET, PX = "198.51.100.10", "2001:db8::10", "198.51.100.20", "198.51.100.30"
SILENT, MOVED = "198.51.100.40", "198.51.100.50"
GET = b"GET / HTTP/1.0\r\n\r\n"
OPTIONS = (
    b"OPTIONS sip:probe@lab.invalid SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 198.51.100.250:5099;branch=z9hG4bK-one;rport\r\n"
    b"Max-Forwards: 70\r\nFrom: <sip:probe@lab.invalid>;tag=ours\r\nTo: <sip:probe@lab.invalid>\r\n"
    b"Call-ID: call-one\r\nCSeq: 7 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)
WAIT = 10.0  # for what must come
SHORT = 0.4  # for what must not


# --- asking (in the private network) --------------------------------------------------------------


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def to_the_end(sock: socket.socket) -> bytes:
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except ConnectionResetError:
        data += b"<reset>"
    return data


def stream(address: str, port: int, words: bytes, wait: float = WAIT, *, ends: bool = True) -> str:
    """Everything said until the peer closes; our side is closed after `words`, unless not `ends`."""
    with socket.socket(family(address)) as sock:
        sock.settimeout(wait)
        try:
            sock.connect((address, port))
        except ConnectionRefusedError:
            return "<refused>"
        except TimeoutError:
            return "<silent>"
        sock.sendall(words)
        if ends:
            sock.shutdown(socket.SHUT_WR)
        return to_the_end(sock).decode("latin-1")


def datagram(address: str, port: int, words: bytes, wait: float = WAIT) -> str:
    with socket.socket(family(address), socket.SOCK_DGRAM) as sock:
        sock.settimeout(wait)
        sock.connect((address, port))
        sock.send(words)
        try:
            return sock.recv(65536).decode("latin-1")
        except ConnectionRefusedError:
            return "<refused>"
        except TimeoutError:
            return "<silent>"


def ping(address: str, wait: float = WAIT) -> str:
    """ICMP echo (RFC 792) with a fixed identifier and a right checksum."""
    body = struct.pack("!HH", 0x4C41, 1)
    total = 0x0800 + sum(struct.unpack("!HH", body))
    echo = struct.pack("!BBH", 8, 0, ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + body
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.settimeout(wait)
        sock.sendto(echo, (address, 0))
        try:
            while True:
                packet, (source, _) = sock.recvfrom(2048)
                if source == address and packet[20] == 0 and packet[24:28] == body:
                    return "<replied>"
        except TimeoutError:
            return "<silent>"


def unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def over_starttls(before: bytes) -> Heard:
    with socket.create_connection((MOVED, 1143), WAIT) as sock:
        plain = sock.recv(4096)
        sock.sendall(before)
        while plain.count(b"\r\n") < 2:
            plain += sock.recv(4096)
        with unchecked().wrap_socket(sock) as secured:
            certificate = secured.getpeercert(binary_form=True) or b""
            secured.sendall(b"x CAPABILITY\r\ny LOGOUT\r\n")
            return {
                "plain": plain.decode("latin-1"),
                "inside": to_the_end(secured).decode("latin-1"),
                "certificate": certificate.hex(),
            }


def over_tls() -> str:
    with socket.create_connection((MOVED, 5061), WAIT) as sock, unchecked().wrap_socket(sock) as secured:
        secured.sendall(OPTIONS)
        data = b""
        while b"\r\n\r\n" not in data:
            data += secured.recv(4096)
        return data.decode("latin-1")


def ask_all() -> dict[str, str | Heard]:
    with lab.running():
        return {
            "server smtp": stream(SERVER, 25, b"EHLO a.invalid\r\nMAIL FROM:<a@a.invalid>\r\nSTARTTLS\r\nQUIT\r\n"),
            "server smtp 6": stream(SERVER6, 25, b"QUIT\r\n"),
            "server smtp long": stream(SERVER, 25, b"x" * 20000, ends=False),
            "server imap": stream(SERVER, 143, b"a CAPABILITY\r\nb STARTTLS\r\nc LOGIN u p\r\n\r\nd LOGOUT\r\n"),
            "server pop3": stream(SERVER, 110, b"CAPA\r\nUSER u\r\nQUIT\r\n"),
            "server web": stream(SERVER, 80, GET),
            "server admin": stream(SERVER, 8080, b"GET / HTTP/1.1\r\nHost: x.invalid\r\n\r\n"),
            "server sip udp": datagram(SERVER, 5060, OPTIONS),
            "server sip tcp": stream(SERVER, 5060, b"\r\n\r\n" + OPTIONS),
            "server sip udp 6": datagram(SERVER6, 5060, OPTIONS),
            "server 443": stream(SERVER, 443, b""),
            "server udp 161": datagram(SERVER, 161, b"?"),
            "server ping": ping(SERVER),
            "handset web": stream(HANDSET, 80, GET),
            "handset sip udp": datagram(HANDSET, 5060, OPTIONS),
            "handset ping": ping(HANDSET),
            "px web": stream(PX, 80, GET),
            "px sip udp": datagram(PX, 5060, OPTIONS),
            "moved smtp": stream(MOVED, 2525, b"QUIT\r\n"),
            "moved imap": stream(MOVED, 1143, b"a CAPABILITY\r\nb LOGOUT\r\n"),
            "moved starttls": over_starttls(b"s STARTTLS\r\n"),
            "moved injected": over_starttls(b"s STARTTLS\r\ni NOOP\r\n"),
            "moved sip tls": over_tls(),
            "moved 25": stream(MOVED, 25, b""),
            "moved 143": stream(MOVED, 143, b""),
            "moved 8080": stream(MOVED, 8080, b""),
            "moved udp 5060": datagram(MOVED, 5060, OPTIONS),
            "moved ping": ping(MOVED),
            "silent sip udp": datagram(SILENT, 5060, OPTIONS, SHORT),
            "silent 25": stream(SILENT, 25, b"", SHORT),
            "silent 8080": stream(SILENT, 8080, b"", SHORT),
            "silent ping": ping(SILENT, SHORT),
        }


# --- judging ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | Heard]:
    out = tmp_path_factory.mktemp("lab") / "heard.json"
    assert lab.enter_and_run([sys.executable, "-W", "error", __file__, str(out)]) == 0
    found: dict[str, str | Heard] = json.loads(out.read_text())
    return found


F1 = "220 {} InSciTek OIS Ready here ESMTP\r\n"


def test_the_exposed_server_s_mail_greetings_are_the_verified_ones(heard: dict[str, str]) -> None:
    host = "pbx.exposed-server.invalid"
    assert heard["server smtp"].startswith(F1.format(host))
    assert heard["server smtp 6"].startswith(F1.format(host))
    assert heard["server pop3"].startswith(f"+OK POP3 Server {host} (InSciTek OIS) ready <1.1@{host}>\r\n")
    assert heard["server imap"].startswith("* OK IMAP4rev1 ready\r\n")


def test_mail_is_answered_but_never_taken(heard: dict[str, str]) -> None:
    said = heard["server smtp"].splitlines()
    assert [line[:3] for line in said] == ["220", "250", "250", "502", "502", "221"]
    assert "STARTTLS" not in heard["server smtp"]
    assert heard["server imap"].splitlines()[1:] == [
        "* CAPABILITY IMAP4rev1",
        "a OK CAPABILITY completed",
        "b BAD unknown command",
        "c NO nobody can log in here",
        "* BAD expected a tag and a command",
        "* BYE closing",
        "d OK LOGOUT completed",
    ]
    assert heard["server pop3"].splitlines()[1:] == [
        "+OK capabilities follow", "USER", "UIDL", ".", "-ERR not here", "+OK closing"
    ]  # fmt: skip


def test_a_line_without_end_ends_the_conversation(heard: dict[str, str]) -> None:
    assert heard["server smtp long"].removesuffix("<reset>") in ("", F1.format("pbx.exposed-server.invalid"))


def test_the_hosted_page_has_the_verified_headers_and_length(heard: dict[str, str]) -> None:
    head, _, body = heard["server web"].partition("\r\n\r\n")
    lines = head.split("\r\n")
    assert lines[:6] == [
        "HTTP/1.0 200 OK",
        "Accept-Ranges: none",
        "Connection: close",
        "Content-Encoding: identity",
        "Content-Length: 4240",
        "Content-Type: text/html; charset=ISO-8859-1",
    ]
    assert lines[-1] == "Server: IST OIS"
    assert "@" not in head
    assert len(body) == 4240
    assert "<title>Allworx Hosted Web Site</title>" in body


def test_the_admin_listener_refuses_with_the_verified_words(heard: dict[str, str]) -> None:
    head, _, body = heard["server admin"].partition("\r\n\r\n")
    lines = head.split("\r\n")
    assert lines.pop(6).startswith("Date: ")
    assert lines == [
        "HTTP/1.0 403 Forbidden",
        "Accept-Ranges: none",
        "Connection: close",
        "Content-Encoding: identity",
        "Content-Length: 0",
        "Content-Type: text/plain",
        "Server: IST OIS",
    ]
    assert body == ""


def test_the_handset_s_page_has_the_verified_title(heard: dict[str, str]) -> None:
    assert heard["handset web"].startswith("HTTP/1.0 200")
    assert "\r\nServer: IST OIS\r\n" in heard["handset web"]
    assert "<title>Phone&nbsp;Station&nbsp;Information</title>" in heard["handset web"]


def test_nothing_that_the_px_says_tells_a_vendor(heard: dict[str, str]) -> None:
    assert "<title>Port Expander (synthetic)</title>" in heard["px web"]
    for word in ("Server:", "OIS", "Allworx"):
        assert word not in heard["px web"] + heard["px sip udp"]


@pytest.mark.parametrize(
    ("name", "contact"),
    [
        ("server sip udp", "<sip:198.51.100.10:5060;transport=udp>"),
        ("server sip tcp", "<sip:198.51.100.10:5060;transport=tcp>"),
        ("server sip udp 6", "<sip:[2001:db8::10]:5060;transport=udp>"),
        ("handset sip udp", "<sip:198.51.100.20:5060;transport=udp>"),
        ("px sip udp", "<sip:198.51.100.30:5060;transport=udp>"),
        ("moved sip tls", "<sip:198.51.100.50:5061;transport=tls>"),
    ],
)
def test_sip_options_gets_the_device_s_own_answer(heard: dict[str, str], name: str, contact: str) -> None:
    lines = heard[name].split("\r\n")
    assert lines[0] == "SIP/2.0 200 OK"
    assert f"Contact: {contact}" in lines
    assert "Call-ID: call-one" in lines
    assert any(line.startswith("To: <sip:probe@lab.invalid>;tag=") for line in lines)
    assert any("branch=z9hG4bK-one;rport=" in line and ";received=" in line for line in lines)
    assert not any(line.lower().startswith(("server:", "user-agent:")) for line in lines)


def test_moved_voicemail_answers_where_it_went_and_nowhere_else(heard: dict[str, str]) -> None:
    assert heard["moved smtp"].startswith(F1.format("pbx.moved-voicemail.invalid"))
    assert "* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\n" in heard["moved imap"]
    for name in ("moved 25", "moved 143", "moved 8080", "moved udp 5060"):
        assert heard[name] == "<refused>"


def test_starttls_shows_a_certificate_of_the_device_s_own(heard: dict[str, Heard]) -> None:
    talk = heard["moved starttls"]
    assert talk["plain"].endswith("s OK begin TLS\r\n")
    assert talk["inside"].startswith("* CAPABILITY IMAP4rev1\r\nx OK")
    certificate = x509.load_der_x509_certificate(bytes.fromhex(talk["certificate"]))
    assert certificate.subject == certificate.issuer
    assert certificate.subject.rfc4514_string() == "CN=pbx.moved-voicemail.invalid"


def test_what_was_said_before_tls_is_not_answered_within_it(heard: dict[str, Heard]) -> None:
    assert "i OK" not in heard["moved injected"]["inside"]
    assert heard["moved injected"]["inside"].startswith("* CAPABILITY")


def test_ports_without_a_service_refuse_and_the_devices_answer_ping(heard: dict[str, str]) -> None:
    assert heard["server 443"] == heard["server udp 161"] == "<refused>"
    assert heard["server ping"] == heard["handset ping"] == heard["moved ping"] == "<replied>"


def test_the_silent_site_is_dead_silent(heard: dict[str, str]) -> None:
    for name in ("silent sip udp", "silent 25", "silent 8080", "silent ping"):
        assert heard[name] == "<silent>"


# --- without the private network ---------------------------------------------------------------------


def test_the_devices_end_with_their_context_and_let_nobody_hang() -> None:
    server = next(device for device in lab.DEVICES if device.name == "exposed-server")
    only_smtp = tuple(service for service in server.services if service.port == 25)
    here = replace(server, owned=("127.51.100.10",), services=(replace(only_smtp[0], port=2599),))

    async def talk() -> bytes:
        async with services.serve([here]):
            reader, writer = await asyncio.open_connection("127.51.100.10", 2599)
            await reader.readline()
        rest = await reader.read()
        writer.close()
        await writer.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.51.100.10", 2599)
        return rest

    assert asyncio.run(asyncio.wait_for(talk(), WAIT)) == b""


def test_outside_the_private_network_the_devices_do_not_start(tmp_path: Path) -> None:
    # A network that lacks the lab's addresses: the new one before it is furnished.
    script = (
        "from exposure_scan import lab\nfrom exposure_scan.lab import network\n"
        "network.unshare()\nnetwork.bring_up()\n"
        "try:\n    with lab.running(): print('running')\n"
        "except OSError as error: print(error)\n"
    )
    out = tmp_path / "out"
    assert lab.enter_and_run(["sh", "-c", f'"$0" -c "$1" >"{out}" 2>&1', sys.executable, script]) == 0
    assert "did not start" in out.read_text()
    assert "Cannot assign requested address" in out.read_text()


ASK: list[Callable[[bytes], object]] = [
    lambda data: answers.smtp(data, "x.invalid"),
    lambda data: answers.imap(data, starttls=True, secured=False),
    answers.pop3,
    lambda data: answers.http(data, b"page", "now"),
    lambda data: answers.sip(data, peer=("198.51.100.250", 9), own=(SERVER, 5060), transport="udp"),
    answers.sip_length,
]


@given(data=st.binary(max_size=300))
def test_garbage_never_breaks_a_device(data: bytes) -> None:
    for ask in ASK:
        ask(data)


def sip(message: bytes) -> bytes:
    return answers.sip(message, peer=("198.51.100.250", 4321), own=(SERVER, 5060), transport="udp")


def test_sip_repeats_itself_and_answers_only_requests() -> None:
    assert sip(OPTIONS) == sip(OPTIONS)
    assert b";rport=4321;received=198.51.100.250" in sip(OPTIONS)
    assert sip(sip(OPTIONS)) == b""
    assert sip(OPTIONS.replace(b"Call-ID", b"X-Other")) == b""
    assert sip(OPTIONS.replace(b"OPTIONS", b"ACK")) == b""
    assert sip(OPTIONS.replace(b"OPTIONS", b"INVITE")).startswith(b"SIP/2.0 405 ")


def test_sip_reads_compact_names_and_keeps_a_tag() -> None:
    message = OPTIONS.replace(b"Via:", b"v:").replace(b"Call-ID:", b"i:").replace(b"To: ", b"t: ")
    assert sip(message) == sip(OPTIONS)
    assert b"To: <sip:probe@lab.invalid>;tag=theirs\r\n" in sip(
        OPTIONS.replace(b"To: <sip:probe@lab.invalid>", b"To: <sip:probe@lab.invalid>;tag=theirs")
    )


def test_the_sites_file_names_the_devices() -> None:
    import tomllib

    text = tomllib.loads(lab.sites_file().read_text(encoding="utf-8"))
    assert {site["name"]: site["targets"] for site in text["site"]} == {
        device.name: [device.address] for device in lab.DEVICES
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(ask_all()))
