"""The masks themselves: on texts, on certificates, on what Nmap said, and on whatever anybody may say."""

from __future__ import annotations

import base64
import re
from datetime import timedelta

import pytest
from conversations import DATAGRAMS
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from samples_redaction import HOST, answering, judgement, lab, port_of

from exposure_scan import sweep
from exposure_scan.conversation import Secured, escape, unescape
from exposure_scan.evidence import redact
from exposure_scan.evidence.masks import examples, mask
from exposure_scan.model import Evidence, Origin, Scan
from exposure_scan.nmap.said import record, seen
from exposure_scan.nmap.values import NmapPort, NmapService
from exposure_scan.sweep.redacted import redacted

SERVER = lab("exposed-server")
Keys = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


# --- certificates ---------------------------------------------------------------------------------


def certificate(
    key: Keys, subject: str = "pbx.customer-synthetic.example", issuer: str | None = None, by: Keys | None = None
) -> bytes:
    def name(common: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Synthetic Dental"),
                x509.NameAttribute(NameOID.SERIAL_NUMBER, "SYN7654321"),
                x509.NameAttribute(NameOID.COMMON_NAME, common),
            ]
        )

    seen = lab("moved-voicemail").started
    built = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer or subject))
        .serial_number(0x5EC2E7001122334455)
        .not_valid_before(seen - timedelta(days=9))
        .not_valid_after(seen + timedelta(days=900))
        .public_key(key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("alt.customer-synthetic.example")]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    signer = by or key
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return built.sign(signer, algorithm).public_bytes(serialization.Encoding.DER)


def over_tls(der: bytes) -> Scan:
    answer = b"HTTP/1.0 200 OK\r\nServer: nginx/1.22.1\r\n\r\n"
    secured = Secured("TLSv1.3", "TLS_AES_256_GCM_SHA384", der)
    return answering(lab("moved-voicemail"), "tcp/443", "tls-http", answer, tls=secured)


EC, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
KEYS: dict[str, Keys] = {"ec": EC, "ed25519": ed25519.Ed25519PrivateKey.generate()}
KEYS["rsa"] = rsa.generate_private_key(65537, 2048)
SELF_SIGNED = {name: (certificate(key), True) for name, key in KEYS.items()}
CERTIFICATES = {
    **SELF_SIGNED,
    "by-another-of-its-name": (certificate(EC, by=OTHER), False),
    "by-an-authority": (certificate(EC, issuer="a-longer-name.customer-synthetic.example", by=OTHER), False),
    "by-an-authority-of-a-like-name": (certificate(EC, "aaa.example", issuer="bbb.example", by=OTHER), False),
}


@pytest.mark.parametrize("kind", CERTIFICATES)
def test_a_certificate_keeps_its_form_and_what_is_told_of_it_but_for_names_and_numbers(kind: str) -> None:
    der, self_signed = CERTIFICATES[kind]
    scan = over_tls(der)
    copy = redacted(scan)
    before, after = port_of(scan, "tcp/443").tls, port_of(copy, "tcp/443").tls
    assert before is not None
    assert after is not None
    assert before.self_signed is after.self_signed is self_signed
    assert (after.not_before, after.not_after, after.version) == (before.not_before, before.not_after, before.version)
    assert after.subject == re.sub(
        r"=[^,=]*", lambda m: m[0] if m[0] == "=US" else "=" + "x" * (len(m[0]) - 1), before.subject
    )
    assert after.names == ("x" * len("alt.customer-synthetic.example"),)
    held = copy.to_json().lower()
    for secret in (b"customer-synthetic", b"Synthetic Dental", b"SYN7654321", b"example", b"\x5e\xc2\xe7\0\x11\x22"):
        assert secret.hex() not in held
    key = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert key.value.digest.hex() not in held


def test_a_firewalls_certificate_keeps_the_words_that_name_the_product_and_not_its_serial() -> None:
    words = [("C", "US"), ("ST", "California"), ("L", "Sunnyvale"), ("O", "Fortinet"), ("OU", "FortiGate")]
    name = x509.Name.from_rfc4514_string(",".join(f"{k}={v}" for k, v in [("CN", "FGT60D4615012345"), *words[::-1]]))
    seen = lab("moved-voicemail").started
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(9).public_key(EC.public_key())
    made = built.not_valid_before(seen - timedelta(days=9)).not_valid_after(seen + timedelta(days=900))
    scan = over_tls(made.sign(EC, hashes.SHA256()).public_bytes(serialization.Encoding.DER))
    copy = redacted(scan)
    port = port_of(copy, "tcp/443")
    assert port_of(scan, "tcp/443").product == port.product
    assert port.said["tls.subject"] == f"CN={'x' * 16},OU=FortiGate,O=Fortinet,L=Sunnyvale,ST=California,C=US"


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"0",
        b"\x30\x80\0\0",
        b"no certificate of a.customer-synthetic.example",
        EC.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
    ],
)
def test_what_is_no_certificate_is_masked_as_text_and_does_no_harm(der: bytes) -> None:
    scan = over_tls(der)
    copy = redacted(scan)
    assert judgement(copy) == judgement(scan)
    assert b"customer-synthetic".hex() not in copy.to_json()


# --- what Nmap said -------------------------------------------------------------------------------


def imported(*ports: NmapPort) -> Scan:
    """A scan as one that was read from a file of Nmap's keeps it."""
    (plain, *_), host = SERVER.evidence, SERVER.hosts[0].model_copy(update={"names": ("pbx.customer.example",)})
    proofs = tuple(
        plain.model_copy(
            update={"id": f"e{number}", "kind": port.transport, "port": port.port, "probe": "nmap", "sent": "",
                    "steps": (), "received": escape(record(port).encode())}
        )
        for number, port in enumerate(ports)
    )  # fmt: skip
    origin = Origin(kind="nmap", name="site.xml", sha256="00")
    return SERVER.model_copy(update={"evidence": proofs, "hosts": (host,), "origin": origin})


def nmap_port(name: str, **more: object) -> NmapPort:
    service = {key: more.pop(key) for key in ("tunnel", "servicefp", "extrainfo") if key in more}
    seen = NmapService(name, "probed", 10, "", "", **{"extrainfo": "", "tunnel": "", "servicefp": "", **service})  # type: ignore[arg-type]
    values = {"scripts": (), "title": "", "certificate": "", **more}
    return NmapPort("tcp", 25, "open", "syn-ack", "", 64, seen, **values)  # type: ignore[arg-type]


def test_the_names_in_what_nmap_said_are_masked_and_its_records_say_the_rest_as_before() -> None:
    raw = 'SF-Port25-TCP:V=7.93%r(NULL,2C,"220\\x20pbx\\.customer-synthetic\\.example\\x20ESMTP\\r\\n");'
    pem = (
        "-----BEGIN CERTIFICATE-----\n"
        + base64.encodebytes(SELF_SIGNED["ec"][0]).decode()
        + "-----END CERTIFICATE-----\n"
    )
    sum_ = " ".join(["1122"] * 8)
    ports = (
        nmap_port("smtp", servicefp=raw.replace("2C", f"{len('220 pbx.customer-synthetic.example ESMTP') + 2:X}")),
        nmap_port("smtp", scripts=(("banner", "220 pbx.customer-syn\nthetic.example ESMTP"),)),
        nmap_port("smtp", scripts=(("smtp-commands", "mx-synthetic7, PIPELINING"),)),
        nmap_port("http", title="customer-synthetic \u00e9 <&>", extrainfo="at web3.customer-synthetic.example"),
        nmap_port("http", scripts=(("ssl-cert", f"Subject: commonName=mx-synthetic7/countryName=US\nMD5: {sum_}"),)),
        nmap_port("http", tunnel="ssl", certificate=pem),
    )  # fmt: skip
    scan = imported(*ports)
    copy = redact(scan)
    before, after = (
        [seen("tcp", "198.51.100.10", unescape(one.received).decode()) for one in of.evidence] for of in (scan, copy)
    )
    for secret in ("customer-syn", "thetic.example", "mx-synthetic7", "1122", "Dental"):
        assert secret.encode() not in b"".join(unescape(one.received) for one in copy.evidence)
    assert [one.state for one in after] == [one.state for one in before]
    assert after[0].observation.said == after[1].observation.said == {"smtp.greeting": f"220 {'x' * len(HOST)} ESMTP"}
    assert after[3].observation.said == {"http.title": f"{'x' * 18} \u00e9 <&>"}
    assert after[5].tls
    assert x509.load_der_x509_certificate(after[5].certificate).subject.rfc4514_string().startswith("CN=xxxx")
    assert copy.hosts[0].names == ("x" * len("pbx.customer.example"),)
    assert redact(copy) == copy


# --- the masks themselves -------------------------------------------------------------------------


@pytest.mark.parametrize(("finds", "text", "masked"), list(examples()))
def test_each_rule_masks_its_examples_and_no_more(finds: str, text: str, masked: str) -> None:
    assert re.compile(finds.encode())
    assert mask(text.encode(), (), None).decode() == masked


@pytest.mark.parametrize(
    "text",
    [
        "Server: Microsoft-IIS/10.0\r\nX-Powered-By: ASP.NET",
        "User-Agent: Grandstream GXP2160 1.0.9.135",
        "Server: Kamailio (5.6.3 (x86_64/linux))",
        "220 ESMTP Postfix (Debian/GNU)",
        "+OK Dovecot (Debian) ready.",
        "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3",
        "<script src='/js/jquery.min.js'></script><link href='style.css'>",
        "Date: Wed, 25 Nov 2026 13:35:02 GMT\r\nLast-Modified: Tue, 01 Jan 2030 00:00:00 GMT",
        "Contact: <sip:10.0.0.5:5060>\r\nVia: SIP/2.0/UDP [2001:db8::1]:5060;received=198.51.100.7",
        "build 20130326, version 7.6.2.3, release v1.0.rc",
    ],
)
def test_products_versions_dates_and_addresses_stay(text: str) -> None:
    assert mask(text.encode(), (), None).decode() == text


def test_our_own_words_stay_when_they_are_repeated() -> None:
    own = {b"exposure-scan.invalid", b"noc.partner.invalid"}
    text = b"250 hello exposure-scan.invalid, noc.partner.invalid and other.example"
    assert mask(text, own, None) == b"250 hello exposure-scan.invalid, noc.partner.invalid and xxxxxxxxxxxxx"


BITS = st.sampled_from(
    [b"a.example", b"pbx", b".", b"-", b"@", b":", b" ", b"\r\n", b"\n", b"\0", b"\xff", b"\\x", b"x", b"250-", b"220 ",
     b"ESMTP", b'nonce="', b'"', b"serial: ", b"12345678", b"00:0a:dd:01:02:03", b"000add010203", b"sip:", b"http://",
     b"Location: //", b"realm=", b"<", b">", b"+OK ", b" login:", b"ff:fe01:2", b"fe80::", b"1.2.3.4", b"A1B2C3D4E5F6"]
)  # fmt: skip
TEXTS = st.one_of(st.binary(max_size=300), st.lists(BITS, max_size=40).map(b"".join))


def evidence_of(probe: str, received: bytes, certificate: bytes) -> Evidence:
    proof = next(one for one in SERVER.evidence if one.kind == "tcp" and one.port == 25)
    kind = "icmp" if probe.startswith("echo") else "udp" if probe in DATAGRAMS else "tcp"
    middle = len(received) // 2
    connected = next(step for step in proof.steps if step.what == "connected")
    steps = (
        connected.model_copy(update={"what": "secured", "detail": f"TLSv1.3 X {certificate.hex()}"}),
        connected.model_copy(update={"what": "received", "detail": "", "size": middle}),
        connected.model_copy(update={"what": "received", "detail": "", "size": len(received) - middle}),
    )
    more = {"kind": kind, "probe": probe, "sent": "", "received": escape(received), "steps": steps}
    return proof.model_copy(update=more)


PROBE = st.sampled_from(["greeting", "http", "sip-udp", "snmp", "dns", "l2tp", "ntp", "ike", "echo", "tftp", "gone"])


@settings(deadline=None)
@given(PROBE, TEXTS, st.one_of(st.binary(max_size=80), st.sampled_from([der for der, _ in CERTIFICATES.values()])))
def test_whatever_was_said_its_length_stays_and_masking_twice_is_masking_once(
    probe: str, received: bytes, der: bytes
) -> None:
    scan = SERVER.model_copy(update={"evidence": (evidence_of(probe, received, der),)})
    once = redact(scan)
    (proof,) = once.evidence
    assert len(unescape(proof.received)) == len(received)
    assert len(proof.steps[0].detail) == len(f"TLSv1.3 X {der.hex()}")
    assert redact(once) == once


@settings(deadline=None, max_examples=25)
@given(TEXTS)
def test_a_scan_of_anything_has_a_copy_that_is_judged_alike(text: bytes) -> None:
    scan = answering(SERVER, "tcp/80", "http", b"HTTP/1.0 200 OK\r\nServer: " + text)
    copy = redacted(scan)
    assert judgement(copy) == judgement(scan)
    assert sweep.differences(copy, sweep.rederive(copy)) == []
