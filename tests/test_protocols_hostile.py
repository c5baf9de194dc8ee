"""Whatever a peer sends: every conversation ends with an observation, and never says more than it may."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from conversations import CALLER, DATAGRAMS, Moment, Said, hold
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from exposure_scan.conversation import End, NotSecured, Secured
from exposure_scan.protocols import PROBES, conversation
from exposure_scan.protocols.tls import certificate_facts

STREAMS = sorted(PROBES - DATAGRAMS)

# Arbitrary bytes, and arbitrary bytes after words that lead a parser further in.
LEADS = (
    b"", b"220 ", b"220-", b"220 x ESMTP\r\n", b"250-STARTTLS\r\n250 ", b"* OK ", b"x1 OK\r\n",
    b"* CAPABILITY STARTTLS\r\nx1 OK\r\n", b"+OK ", b"+OK\r\nSTLS\r\n.\r\n", b"SSH-", b"RFB 003.008\n",
    b"\xff\xfd", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 400 \r\n", b"HTTP/1.1 200 OK\r\nContent-Length: ",
    b"HTTP/1.1 200 OK\r\n\r\n<title>", b"SIP/2.0 200 OK\r\nVia: ", b"SIP/2.0 100 Trying\r\n\r\n",
    b"OPTIONS sip:a SIP/2.0\r\n\r\n", b"\0\5\0\1", b"\0\3\0\1", b"0\x82\xff\xff", b"\x24", b"\0\0",
)  # fmt: skip
piece = st.builds(lambda lead, tail: lead + tail, st.sampled_from(LEADS), st.binary(max_size=60))
said = st.lists(st.one_of(piece, st.sampled_from([End.CLOSED, End.RESET])), max_size=4)
handshake = st.one_of(
    st.none(),
    st.just(NotSecured("wrong version number")),
    st.builds(Secured, st.just("TLSv1.2"), st.just("X"), st.binary(max_size=40)),
)


@pytest.mark.parametrize("probe", sorted(PROBES))
@given(script=st.lists(said, max_size=8), tls=handshake)
def test_arbitrary_bytes_always_end_in_an_observation(
    probe: str, script: list[list[Said]], tls: Secured | NotSecured | None
) -> None:
    answers = iter(script)
    talk = hold(probe, lambda _: next(answers, []), tls=tls)  # `hold` also repeats it from its record
    assert talk.observation.service is None or talk.observation.answered
    assert talk.observation.answered or not talk.observation.valid
    assert talk.connections <= 4


@pytest.mark.parametrize("probe", sorted(PROBES))
@given(noise=st.binary(min_size=1, max_size=200))
def test_noise_is_never_a_service_that_was_spoken_to_the_letter(probe: str, noise: bytes) -> None:
    if probe == "tftp" and noise[:2] in (b"\0\3", b"\0\5"):
        return  # nothing in TFTP ties an answer to its request
    seen = hold(probe, lambda moment: [b"\x01" + noise]).observation
    assert (seen.service, seen.valid) == (None, False)


# --- only harmless words -------------------------------------------------------------------------

HARMLESS = re.compile(
    rb"(?:EHLO exposure-scan\.invalid|STARTTLS|QUIT|x[1-3] (?:CAPABILITY|STARTTLS|LOGOUT)|CAPA|STLS)\r\n"
    rb"|GET / HTTP/1\.1\r\n(?:(?:Host|User-Agent|Accept|Connection|From): [^\r\n]*\r\n)*\r\n"
    rb"|exposure-scan-vantage/1 hello tcp/25 [0-9a-f]{32} [0-9a-f]{64} *\n"
    rb"|OPTIONS sip:[^\r\n ]* SIP/2\.0\r\n(?:[A-Z][A-Za-z-]*: [^\r\n]*\r\n)*\r\n"
)


@pytest.mark.parametrize("probe", STREAMS)
@given(script=st.lists(said, max_size=8), tls=handshake)
def test_only_harmless_words_are_said_whatever_the_peer_says(
    probe: str, script: list[list[Said]], tls: Secured | NotSecured | None
) -> None:
    answers = iter(script)
    for words in hold(probe, lambda _: next(answers, []), tls=tls).sent:
        assert HARMLESS.fullmatch(words), words


def test_the_words_are_really_looked_at() -> None:
    assert {words.split()[0] for words in hold("greeting", eager).sent} == {b"EHLO", b"STARTTLS", b"QUIT"}


def eager(moment: Moment) -> Sequence[Said]:
    if moment.words.startswith(b"EHLO"):
        return [b"250-x\r\n250-AUTH LOGIN PLAIN\r\n250-VRFY\r\n250 STARTTLS\r\n"]
    return [b"220 x ESMTP\r\n"]


def test_an_unknown_probe_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        conversation("finger", "00", CALLER)


# --- certificates --------------------------------------------------------------------------------


def certificate(subject: str, issuer: str, *, own_key: bool = True) -> bytes:
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName("pbx.lab.invalid"), x509.IPAddress(ip_address("198.51.100.10"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=10))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key if own_key else other, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.DER)


def test_a_certificate_is_read_and_its_names_become_fields() -> None:
    secured = Secured("TLSv1.2", "X", certificate("pbx.lab.invalid", "pbx.lab.invalid"))
    facts = certificate_facts(secured)
    assert (facts.version, facts.cipher, facts.self_signed) == ("TLSv1.2", "X", True)
    assert (facts.subject, facts.issuer) == ("CN=pbx.lab.invalid", "CN=pbx.lab.invalid")
    assert facts.names == ("pbx.lab.invalid", "198.51.100.10")
    assert facts.not_after == datetime(2020, 1, 11, tzinfo=UTC)
    assert facts.sha256 is not None
    assert len(facts.sha256) == 64
    seen = hold("tls-http", tls=secured).observation
    assert (seen.tls, seen.said["tls.subject"]) == (facts, "CN=pbx.lab.invalid")


def test_self_signed_means_by_name_and_by_signature() -> None:
    for der in (
        certificate("pbx.lab.invalid", "ca.invalid"),
        certificate("a.invalid", "a.invalid", own_key=False),
    ):
        assert certificate_facts(Secured("TLSv1.2", "X", der)).self_signed is False


def test_no_certificate_and_a_broken_one_leave_what_is_known() -> None:
    assert certificate_facts(Secured("TLSv1.2", "X", b"")).sha256 is None
    broken = certificate_facts(Secured("TLSv1.2", "X", b"\x30\x03abc"))
    assert (broken.version, broken.subject, broken.sha256 is not None) == ("TLSv1.2", "", True)


DER = certificate("pbx.lab.invalid", "pbx.lab.invalid")


@given(at=st.integers(0, len(DER) - 1), byte=st.integers(0, 255), cut=st.integers(0, len(DER)))
def test_a_damaged_certificate_never_raises(at: int, byte: int, cut: int) -> None:
    damaged = DER[:at] + bytes([byte]) + DER[at + 1 :]
    assert certificate_facts(Secured("TLSv1.2", "X", damaged)).version == "TLSv1.2"
    assert certificate_facts(Secured("TLSv1.2", "X", DER[:cut])).version == "TLSv1.2"


def test_a_certificate_of_a_version_that_does_not_exist_is_not_read() -> None:
    version = b"\xa0\x03\x02\x01\x02"
    assert version in DER
    facts = certificate_facts(Secured("TLSv1.2", "X", DER.replace(version, b"\xa0\x03\x02\x01\x09")))
    assert (facts.subject, facts.sha256 is not None) == ("", True)
