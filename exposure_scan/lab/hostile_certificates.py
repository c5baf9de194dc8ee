"""Certificates that no authority would sign, written byte by byte in DER (X.690): all of them synthetic.

No library writes these, and none is needed: the private key of the elliptic ones is the number 1, whose
public key is the generator of P-256 itself (SEC 2, section 2.4.2), and the huge one is made of two Mersenne
primes. Both are known to everybody, and protect nothing. The signatures are zeros.
"""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

_INTEGER, _BITS, _OCTETS, _NULL, _OID, _UTF8, _T61, _UTC, _TIME = 2, 3, 4, 5, 6, 12, 20, 23, 24
_SEQUENCE, _SET = 0x30, 0x31
_COMMON_NAME, _ORGANIZATION = b"\x55\x04\x03", b"\x55\x04\x0a"
_SAN = b"\x55\x1d\x11"
_EC_KEY, _P256 = bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d030107")
_ECDSA_SHA256, _RSA_KEY, _RSA_SHA256 = (
    bytes.fromhex(word) for word in ("2a8648ce3d040302", "2a864886f70d010101", "2a864886f70d01010b")
)
_GENERATOR = bytes.fromhex(
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)
_EXPONENT = 65537
_LONG = 20_000  # characters of a name
_MANY, _TOO_MANY = 3_000, 12_000  # alternative names: within, and beyond the 100 KB that OpenSSL takes


def _der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + body


def _integer(value: int) -> bytes:
    size = max(value, ~value).bit_length() // 8 + 1
    return _der(_INTEGER, value.to_bytes(size, "big", signed=True))


def _bits(data: bytes) -> bytes:
    return _der(_BITS, b"\0", data)


def _oid(packed: bytes) -> bytes:
    return _der(_OID, packed)


def _name(common: bytes) -> bytes:
    text = _UTF8
    try:
        common.decode()
    except UnicodeDecodeError:
        text = _T61  # the library refuses to load the other; here nobody knows what the bytes mean
    pairs = ((_ORGANIZATION, b"synthetic"), (_COMMON_NAME, common))
    return _der(_SEQUENCE, *(_der(_SET, _der(_SEQUENCE, _oid(kind), _der(text, word))) for kind, word in pairs))


def _alternatives(names: list[bytes]) -> bytes:
    listed = _der(_SEQUENCE, *(_der(0x82, name) for name in names))
    return _der(0xA3, _der(_SEQUENCE, _der(_SEQUENCE, _oid(_SAN), _der(_OCTETS, listed))))


def _ec() -> tuple[bytes, bytes, bytes]:
    """Public key, signature algorithm, and the private key with its PEM label."""
    public = _der(_SEQUENCE, _der(_SEQUENCE, _oid(_EC_KEY), _oid(_P256)), _bits(_GENERATOR))
    one = _der(_OCTETS, (1).to_bytes(32, "big"))
    private = _der(_SEQUENCE, _integer(1), one, _der(0xA0, _oid(_P256)), _der(0xA1, _bits(_GENERATOR)))
    return public, _der(_SEQUENCE, _oid(_ECDSA_SHA256)), _pem("EC PRIVATE KEY", private)


def _huge_rsa() -> tuple[bytes, bytes, bytes]:
    """As `_ec`, with a modulus of 8,676 bits; OpenSSL takes 16,384 at most, and then signs for half a second."""
    p, q = 2**4423 - 1, 2**4253 - 1
    n, d = p * q, pow(_EXPONENT, -1, (p - 1) * (q - 1))
    null = _der(_NULL)
    public = _der(_SEQUENCE, _integer(n), _integer(_EXPONENT))
    parts = (0, n, _EXPONENT, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))
    return (
        _der(_SEQUENCE, _der(_SEQUENCE, _oid(_RSA_KEY), null), _bits(public)),
        _der(_SEQUENCE, _oid(_RSA_SHA256), null),
        _pem("RSA PRIVATE KEY", _der(_SEQUENCE, *map(_integer, parts))),
    )


def _pem(label: str, der: bytes) -> bytes:
    text = base64.encodebytes(der).decode("ascii")
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode("ascii")


_ESCAPES = b"\x1b[2J\x1b]0;owned\x07\x1b[31mhostile.invalid\x1b[0m\r\nSet-Cookie: injected"
_BIDI = "hostile\u202e\u2066dilavni.\u2069\u200f\u200b.invalid".encode()
_HUGE = "huge-key"
_FIRST, _LAST = _der(_TIME, b"00010101000000Z"), _der(_TIME, b"99991231235959Z")
_FROM, _UNTIL = _der(_UTC, b"200101000000Z"), _der(_UTC, b"491231235959Z")


# What stands in each of them in place of the ordinary: name, alternative names, serial, and the two dates.
_ODDITIES: dict[str, dict[str, object]] = {
    "plain": {},
    "nuls": {"name": b"trusted.invalid\0.hostile.invalid", "more": [b"trusted.invalid\0.hostile.invalid"]},
    "bidi": {"name": _BIDI, "more": [_BIDI]},
    "escapes": {"name": _ESCAPES, "more": [_ESCAPES]},
    "no-utf8": {"name": b"\xff\xfe\xc0\xaf", "more": [b"\xff\xfe\xc0\xaf"]},
    "long": {"name": b"A" * _LONG, "more": [b"A" * _LONG]},
    "many-names": {"more": [b"n%d.hostile.invalid" % number for number in range(_MANY)]},
    "too-many-names": {"more": [b"n%d.hostile.invalid" % number for number in range(_TOO_MANY)]},
    "negative-serial": {"serial": -(2**159)},
    "year-one": {"until": _FIRST, "begin": _FIRST},
    "last-year": {"until": _LAST, "begin": _LAST},
    "no-dates": {"begin": _der(_TIME, b"20261399999999Z"), "until": _der(_UTC, b"never")},
    _HUGE: {},
}  # fmt: skip
KINDS = tuple(_ODDITIES)


def pem(kind: str) -> bytes:
    """The certificate of a kind and its private key, as the ssl module reads them.

    Raises:
        KeyError: there is no such kind.
    """
    odd: Mapping[str, object] = MappingProxyType(_ODDITIES[kind])
    public, algorithm, private = _huge_rsa() if kind == _HUGE else _ec()
    name, serial, more = odd.get("name", b"hostile.invalid"), odd.get("serial", 1), odd.get("more", [])
    begin, until = odd.get("begin", _FROM), odd.get("until", _UNTIL)
    assert isinstance(name, bytes)
    assert isinstance(serial, int)
    assert isinstance(more, list)
    assert isinstance(begin, bytes)
    assert isinstance(until, bytes)
    whole = (
        _der(0xA0, _integer(2)),
        _integer(serial),
        algorithm,
        _name(name),
        _der(_SEQUENCE, begin, until),
        _name(name),
        public,
        *([_alternatives(more)] if more else []),
    )
    return _pem("CERTIFICATE", _der(_SEQUENCE, _der(_SEQUENCE, *whole), algorithm, _bits(bytes(8)))) + private


def context(kind: str) -> ssl.SSLContext:
    """A server's TLS with the certificate of a kind.

    Raises:
        KeyError: there is no such kind.
        ssl.SSLError: the library does not take it.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:  # the ssl module reads keys from files alone
        file = Path(folder, "hostile.pem")
        file.write_bytes(pem(kind))
        made.load_cert_chain(file)
    return made
