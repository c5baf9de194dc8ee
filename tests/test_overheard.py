"""What somebody else heard: the same bytes give the same observation, whoever asked, and nothing can hurt."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from conversations import LOCAL, PEER, hold
from test_protocols_datagrams import GOOD

from exposure_scan.conversation import Event, Observation, endpoint_text
from exposure_scan.protocols.overheard import begun_by_host, overheard
from exposure_scan.sweep.overhearing import discreet

Who = Literal["sent", "received"]
GREETING = b"220 mail.synthetic.invalid ESMTP ready\r\n"
REGISTER = (
    b"REGISTER sip:198.51.100.10 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bKsynthetic1;rport\r\n"
    b"To: <sip:201@198.51.100.10>\r\nFrom: <sip:201@198.51.100.10>;tag=a1\r\nCall-ID: c1@10.0.0.9\r\n"
    b"CSeq: 7 REGISTER\r\nContact: <sip:201@10.0.0.9:5060>\r\nContent-Length: 0\r\n\r\n"
)
REFUSED = (
    b"SIP/2.0 401 Unauthorized\r\n"
    b"Via: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bKsynthetic1;rport=40000;received=198.51.100.250\r\n"
    b"To: <sip:201@198.51.100.10>;tag=b2\r\nFrom: <sip:201@198.51.100.10>;tag=a1\r\nCall-ID: c1@10.0.0.9\r\n"
    b'CSeq: 7 REGISTER\r\nServer: Synthetic/1.0\r\nWWW-Authenticate: Digest realm="synthetic", nonce="1"\r\n'
    b"Content-Length: 0\r\n\r\n"
)
OPTIONS_OF_THE_HOST = REGISTER.replace(b"REGISTER", b"OPTIONS")


def flow(*said: tuple[Who, bytes], port: int = 25) -> list[Event]:
    ends = f"{endpoint_text(LOCAL)} {endpoint_text((PEER, port))}"
    return [Event(0, "connected", detail=ends), *(Event(1 + at, who, data) for at, (who, data) in enumerate(said))]


def tcp(*said: tuple[Who, bytes]) -> Observation:
    return overheard("tcp", flow(*said))


def udp(*said: tuple[Who, bytes]) -> Observation:
    return overheard("udp", flow(*said, port=4711))  # the number tells nothing


# --- the same as our own conversation -------------------------------------------------------------


@pytest.mark.parametrize("probe", [probe for probe in GOOD if not probe.startswith("echo")])
def test_an_answer_in_datagrams_is_read_as_our_own_probe_reads_it(probe: str) -> None:
    ours = hold(probe, lambda moment: [GOOD[probe](moment.words)] if moment.words else ())
    assert ours.observation.valid
    assert overheard("udp", ours.events) == ours.observation


@pytest.mark.parametrize(
    ("words", "service"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nServer: Synthetic\r\n\r\n", "http"),
        (GREETING, "smtp"),
        (b"* OK IMAP4rev1 ready\r\n", "imap"),
        (b"SSH-2.0-Synthetic\r\n", "ssh"),
    ],
)
def test_a_handshake_that_is_answered_in_plain_words_shows_what_answers(words: bytes, service: str | None) -> None:
    seen = tcp(("sent", CLIENT), ("received", words))
    assert (seen.answered, seen.tls) == (True, None)
    assert seen.service == service
    assert seen.banner is not None
    assert words.startswith(seen.banner.partition(",")[0].encode())


def test_an_echo_reply_counts_for_the_request_that_it_repeats_only() -> None:
    ours = hold("echo", lambda moment: [GOOD["echo"](moment.words)] if moment.words else ())
    assert overheard("icmp", ours.events) == ours.observation
    other = [event._replace(data=event.data + b"x") if event.what == "received" else event for event in ours.events]
    assert overheard("icmp", other) == Observation()


@pytest.mark.parametrize(
    ("greeting", "asked", "answer", "service", "said"),
    [
        (
            GREETING,
            b"EHLO [10.0.0.9]\r\n",
            b"250-mail.synthetic.invalid\r\n250 8BITMIME\r\n",
            "smtp",
            {"smtp.ehlo": "250-mail.synthetic.invalid\n250 8BITMIME"},
        ),
        (
            b"* OK IMAP4rev1 ready\r\n",
            b"A001 capability\r\n",
            b"* CAPABILITY IMAP4rev1 IDLE\r\nA001 OK done\r\n",
            "imap",
            {"imap.capability": "* CAPABILITY IMAP4rev1 IDLE"},
        ),
        (b"+OK ready\r\n", b"CAPA\r\n", b"+OK\r\nUSER\r\nUIDL\r\n.\r\n", "pop3", {"pop3.capa": "+OK\nUSER\nUIDL"}),
    ],
)
def test_a_mail_clients_words_tell_the_server_as_ours_do(
    greeting: bytes, asked: bytes, answer: bytes, service: str, said: dict[str, str]
) -> None:
    seen = tcp(("received", greeting), ("sent", asked), ("received", answer[:9]), ("received", answer[9:]))
    ours = hold(
        "greeting",
        lambda moment: (
            [greeting] if not moment.words else [answer.replace(b"A001", b"x1")] if moment.words[:4] != b"QUIT" else ()
        ),
    ).observation
    first = {f"{service}.greeting": greeting.decode().strip()}
    assert (seen.service, dict(seen.said), seen.valid) == (service, {**first, **said}, True)
    assert (ours.service, dict(ours.said), ours.banner) == (seen.service, dict(seen.said), seen.banner)


def test_helo_and_user_tell_a_mail_server_from_a_file_server() -> None:
    bare = b"220 ready\r\n"
    assert tcp(("received", bare), ("sent", b"HELO x\r\n"), ("received", b"250 hello\r\n")).service == "smtp"
    files = tcp(("received", bare), ("sent", b"USER anonymous\r\n"), ("received", b"331 password\r\n"))
    assert (files.service, files.said) == ("ftp", {"ftp.greeting": "220 ready"})
    undecided = tcp(("received", bare))
    assert (undecided.service, undecided.answered, undecided.notes) == (None, True, ())


def test_the_first_page_is_taken_where_a_browser_fetched_several() -> None:
    page = b"HTTP/1.1 200 OK\r\nServer: IST OIS\r\nContent-Length: 38\r\n\r\n<title>Phone Station Information</titl"
    found = tcp(
        ("sent", b"GET /favicon.ico HTTP/1.1\r\n\r\n"),
        ("received", b"HTTP/1.1 404 Not Found\r\nServer: other\r\nContent-Length: 0\r\n\r\n"),
        ("sent", b"GET / HTTP/1.1\r\n\r\n"),
        ("received", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("received", page),
    )
    assert (found.service, found.said["http.status"], found.said["http.server"]) == ("http", "200", "IST OIS")


# --- SIP ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_refused_registration_shows_sip_without_the_phones_own_addresses(transport: Literal["tcp", "udp"]) -> None:
    seen = overheard(transport, flow(("sent", REGISTER), ("received", REFUSED)))
    assert (seen.service, seen.valid, seen.said["sip.status"]) == ("sip", True, "401")
    assert seen.banner == "SIP/2.0 401 Unauthorized, Server: Synthetic/1.0"
    assert "sip.private" not in seen.said  # 10.0.0.9 is the phone's own word


def test_a_private_address_of_the_host_itself_is_told() -> None:
    leaking = REFUSED.replace(b"Server:", b"Contact: <sip:192.168.1.5:5060>\r\nServer:")
    assert udp(("sent", REGISTER), ("received", leaking)).said["sip.private"] == "192.168.1.5 (Contact)"


@pytest.mark.parametrize(
    "answer",
    [
        REFUSED.replace(b"CSeq: 7", b"CSeq: 8"),
        REFUSED.replace(b"c1@", b"c2@").replace(b"synthetic1", b"synthetic2"),
    ],
)
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_an_answer_to_nobodys_request_is_no_sip(transport: Literal["tcp", "udp"], answer: bytes) -> None:
    seen = overheard(transport, flow(("sent", REGISTER), ("received", answer)))
    assert (seen.service, seen.answered, seen.valid) == (None, True, False)


def test_a_request_of_the_hosts_own_is_no_answer() -> None:
    back = OPTIONS_OF_THE_HOST
    assert udp(("sent", b"\r\n\r\n"), ("received", back), ("sent", b"SIP/2.0 200 OK\r\n\r\n")) == Observation()


def test_what_the_host_began_itself_is_known_by_its_first_words() -> None:
    trunk = flow(("received", REGISTER), ("sent", REFUSED), port=5060)
    assert begun_by_host("udp", [trunk[0], trunk[2]])  # the capture began after the request
    assert begun_by_host("udp", flow(("sent", OPTIONS_OF_THE_HOST), ("received", REFUSED), ("received", REGISTER)))
    assert not begun_by_host("udp", flow(("sent", OPTIONS_OF_THE_HOST), ("received", REFUSED)))
    voice = b"\x80\x00" + bytes(6) + b"SSRC" + bytes(160)
    assert begun_by_host("udp", flow(("sent", voice), ("received", voice), ("sent", voice), ("received", voice)))


# --- TLS ------------------------------------------------------------------------------------------


def certificate() -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name.from_rfc4514_string("CN=synthetic.invalid")
    begins = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, begins, begins + timedelta(days=400))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def record(*messages: bytes, kind: int = 22) -> bytes:
    body = b"".join(messages)
    return struct.pack("!BHH", kind, 0x0303, len(body)) + body


def hello(version: int, cipher: int, extensions: bytes = b"") -> bytes:
    body = struct.pack("!H", version) + bytes(32) + b"\0" + struct.pack("!HB", cipher, 0)
    body += struct.pack("!H", len(extensions)) + extensions
    return b"\x02" + len(body).to_bytes(3) + body


def shown(der: bytes) -> bytes:
    body = (len(der) + 3).to_bytes(3) + len(der).to_bytes(3) + der
    return b"\x0b" + len(body).to_bytes(3) + body


CLIENT = record(b"\x01\0\0\0")


def test_the_certificate_of_an_old_version_is_read_in_passing() -> None:
    answer = record(hello(0x0301, 0x002F), shown(certificate()))
    seen = tcp(("sent", CLIENT), ("received", answer[:50]), ("received", answer[50:]), ("sent", record(b"secret")))
    assert seen.tls is not None
    assert (seen.service, seen.answered, seen.said["tls.subject"]) == (None, True, "CN=synthetic.invalid")
    assert (seen.tls.version, seen.tls.cipher, seen.tls.self_signed) == ("TLSv1", "AES128-SHA", True)


def test_of_the_newest_version_only_version_and_cipher_show() -> None:
    seen = tcp(("sent", CLIENT), ("received", record(hello(0x0303, 0x1302, b"\0\x2b\0\x02\x03\x04"))))
    assert seen.tls is not None
    assert (seen.tls.version, seen.tls.cipher, seen.tls.sha256) == ("TLSv1.3", "TLS_AES_256_GCM_SHA384", None)


def test_a_refused_handshake_is_an_answer_and_no_session() -> None:
    seen = tcp(("sent", CLIENT), ("received", record(b"\x02\x28", kind=21)))
    assert (seen.tls, seen.answered, seen.service) == (None, True, None)


def test_what_stood_before_starttls_and_the_session_after_it_are_both_seen() -> None:
    seen = tcp(
        ("received", GREETING),
        ("sent", b"EHLO x\r\n"),
        ("received", b"250-mail\r\n250 STARTTLS\r\n"),
        ("sent", b"STARTTLS\r\n"),
        ("received", b"220 go ahead\r\n"),
        ("sent", CLIENT),
        ("received", record(hello(0x0303, 0xC02F), shown(certificate()))),
        ("sent", record(b"secret")),
        ("received", record(b"secret")),
    )
    assert seen.tls is not None
    assert (seen.service, seen.tls.version, seen.said["tls.subject"]) == ("smtp", "TLSv1.2", "CN=synthetic.invalid")
    assert seen.said["smtp.ehlo"] == "250-mail\n250 STARTTLS"


# --- what is kept ---------------------------------------------------------------------------------


def test_what_others_keep_secret_is_not_discreet() -> None:
    mail = flow(
        ("received", b"* OK ready\r\n"),
        ("sent", b"1 CAPABILITY\r\n"),
        ("received", b"* CAPABILITY IMAP4rev1\r\n1 OK\r\n"),
        ("sent", b"2 LOGIN owner hunter2\r\n"),
        ("received", b"2 OK\r\n"),
        ("sent", b"3 FETCH 1 BODY[]\r\n"),
        ("received", b"* 1 FETCH (private letter)\r\n"),
    )
    web = flow(("sent", b"POST / HTTP/1.1\r\nAuthorization: Basic aHVudGVyMg==\r\n\r\nuser=a&password=hunter2"))
    text = b"".join(event.data for event in (*discreet(mail), *discreet(web)))
    for secret in (b"hunter2", b"aHVudGVyMg", b"letter", b"FETCH"):
        assert secret not in text
    assert overheard("tcp", discreet(mail)) == overheard("tcp", mail)


# --- hostile --------------------------------------------------------------------------------------


def test_much_talk_is_looked_at_within_bounds() -> None:
    talk: list[tuple[Who, bytes]] = [("sent", REGISTER), ("received", REFUSED)]
    long = flow(*talk * 5000)
    assert overheard("udp", long).valid
    download: list[tuple[Who, bytes]] = [("received", b"x" * 1000)]
    bounded = discreet(flow(("received", GREETING), *download * 5000))
    assert sum(len(event.data) for event in bounded) <= 65536
    assert len(bounded) <= 400
