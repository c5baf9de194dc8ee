"""Certificates: what is read of one, and what stands out by the day on which it was seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from conversations import hold
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from exposure_scan.conversation import Secured
from exposure_scan.model import Tls
from exposure_scan.protocols.tls import certificate_facts, certificate_notes

SEEN = datetime(2026, 11, 24, 12, tzinfo=UTC)
FINE = Tls(version="TLSv1.3", not_before=datetime(2026, 1, 1, tzinfo=UTC), not_after=datetime(2027, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("more", "notes"),
    [
        ({}, ()),
        ({"not_after": datetime(2026, 11, 24, 11, tzinfo=UTC)}, ("The certificate expired on 2026-11-24.",)),
        ({"not_after": datetime(2010, 1, 2, tzinfo=UTC)}, ("The certificate expired on 2010-01-02.",)),
        (
            {"not_after": datetime(2026, 11, 25, 11, tzinfo=UTC)},
            ("The certificate expires on 2026-11-25, within a day.",),
        ),
        ({"not_after": datetime(2026, 11, 25, 13, tzinfo=UTC)}, ("The certificate expires on 2026-11-25, in 1 day.",)),
        (
            {"not_after": datetime(2026, 12, 24, 12, tzinfo=UTC)},
            ("The certificate expires on 2026-12-24, in 30 days.",),
        ),
        ({"not_after": datetime(2026, 12, 24, 12, 1, tzinfo=UTC)}, ()),
        ({"not_after": datetime(2026, 11, 24, 11)}, ("The certificate expired on 2026-11-24.",)),  # noqa: DTZ001
        (
            {"not_before": datetime(2026, 11, 25, tzinfo=UTC)},
            ("The certificate is valid only from 2026-11-25 on.",),
        ),
        ({"not_before": None, "not_after": None}, ()),
        (
            {"version": "TLSv1"},
            ("It chose TLS 1.0, which is out of use (RFC 8996, 2021), although newer versions were offered.",),
        ),
        ({"version": "TLSv1.2"}, ()),
    ],
)
def test_what_stands_out_about_a_certificate_depends_on_when_it_was_seen(
    more: dict[str, object], notes: tuple[str, ...]
) -> None:
    assert certificate_notes(FINE.model_copy(update=more), SEEN) == notes


def test_several_notes_stand_side_by_side() -> None:
    old = FINE.model_copy(update={"version": "TLSv1.1", "not_after": datetime(2020, 1, 1, tzinfo=UTC)})
    assert [note.split(" ")[1] for note in certificate_notes(old, SEEN)] == ["certificate", "chose"]


# --- what is read --------------------------------------------------------------------------------


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


def test_a_certificate_of_a_version_that_does_not_exist_is_not_read() -> None:
    version = b"\xa0\x03\x02\x01\x02"
    assert version in DER
    facts = certificate_facts(Secured("TLSv1.2", "X", DER.replace(version, b"\xa0\x03\x02\x01\x09")))
    assert (facts.subject, facts.sha256 is not None) == ("", True)


def test_a_name_whose_text_is_of_an_unknown_type_is_not_read() -> None:
    at = DER.index(b"pbx.lab.invalid") - 2  # the text's type (ITU-T X.690, 8.1.2)
    facts = certificate_facts(Secured("TLSv1.2", "X", DER[:at] + b"\0" + DER[at + 1 :]))
    assert facts.sha256 is not None
