"""A TLS handshake as a passer-by sees it: the version, the cipher, and the certificate where it is in the clear.

Up to TLS 1.2 the server sends its certificate in plain text (RFC 5246, section 7.4.2); TLS 1.3 enciphers it
(RFC 8446, section 4.4.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from exposure_scan.conversation import Secured

_ALERT, _HANDSHAKE = 21, 22  # kinds of records
_SERVER_HELLO, _CERTIFICATE = 2, 11
_SUPPORTED_VERSIONS = 43  # RFC 8446, section 4.2.1
_VERSIONS: Mapping[int, str] = MappingProxyType(
    {0x0300: "SSLv3", 0x0301: "TLSv1", 0x0302: "TLSv1.1", 0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}
)
_MOST = 65536  # bytes of a handshake that are looked at

# The library's own names of common suites (IANA, TLS Cipher Suites), as our own conversations tell them.
_CIPHERS: Mapping[int, str] = MappingProxyType(
    {
        0x0004: "RC4-MD5", 0x0005: "RC4-SHA", 0x000A: "DES-CBC3-SHA", 0x002F: "AES128-SHA",
        0x0033: "DHE-RSA-AES128-SHA", 0x0035: "AES256-SHA", 0x0039: "DHE-RSA-AES256-SHA", 0x003C: "AES128-SHA256",
        0x003D: "AES256-SHA256", 0x0067: "DHE-RSA-AES128-SHA256", 0x006B: "DHE-RSA-AES256-SHA256",
        0x009C: "AES128-GCM-SHA256", 0x009D: "AES256-GCM-SHA384", 0x009E: "DHE-RSA-AES128-GCM-SHA256",
        0x009F: "DHE-RSA-AES256-GCM-SHA384", 0x1301: "TLS_AES_128_GCM_SHA256", 0x1302: "TLS_AES_256_GCM_SHA384",
        0x1303: "TLS_CHACHA20_POLY1305_SHA256", 0xC009: "ECDHE-ECDSA-AES128-SHA", 0xC00A: "ECDHE-ECDSA-AES256-SHA",
        0xC013: "ECDHE-RSA-AES128-SHA", 0xC014: "ECDHE-RSA-AES256-SHA", 0xC023: "ECDHE-ECDSA-AES128-SHA256",
        0xC024: "ECDHE-ECDSA-AES256-SHA384", 0xC027: "ECDHE-RSA-AES128-SHA256", 0xC028: "ECDHE-RSA-AES256-SHA384",
        0xC02B: "ECDHE-ECDSA-AES128-GCM-SHA256", 0xC02C: "ECDHE-ECDSA-AES256-GCM-SHA384",
        0xC02F: "ECDHE-RSA-AES128-GCM-SHA256", 0xC030: "ECDHE-RSA-AES256-GCM-SHA384",
        0xCCA8: "ECDHE-RSA-CHACHA20-POLY1305", 0xCCA9: "ECDHE-ECDSA-CHACHA20-POLY1305",
        0xCCAA: "DHE-RSA-CHACHA20-POLY1305",
    }
)  # fmt: skip


def is_tls(data: bytes) -> bool:
    """Whether these bytes begin as a record of a handshake, or as an alert in its place."""
    return len(data) >= 3 and data[0] in (_ALERT, _HANDSHAKE) and data[1] == 3 and data[2] <= 4


def overheard(data: bytes) -> Secured | None:
    """What the server's side of a handshake shows in the clear; None where no session came about.

    A suite that is not among the common ones has the empty name.
    """
    session: tuple[str, str] | None = None
    certificate = b""
    for kind, message in _messages(data[:_MOST]):
        if kind == _SERVER_HELLO and session is None:
            session = _hello(message)
        elif kind == _CERTIFICATE and not certificate:
            size = int.from_bytes(message[3:6])
            certificate = message[6 : 6 + size] if 6 + size <= len(message) else b""
    return None if session is None else Secured(*session, certificate)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The handshake messages, put together from their records, up to the first record that is none."""
    waiting = b""
    while len(data) >= 5 and data[0] == _HANDSHAKE and data[1] == 3:
        size = int.from_bytes(data[3:5])
        waiting += data[5 : 5 + size]
        data = data[5 + size :]
        while len(waiting) >= 4 and len(waiting) >= 4 + int.from_bytes(waiting[1:4]):
            end = 4 + int.from_bytes(waiting[1:4])
            yield waiting[0], waiting[4:end]
            waiting = waiting[end:]


def _hello(message: bytes) -> tuple[str, str] | None:
    """Version and cipher of a ServerHello (RFC 8446, section 4.1.3); None where it is damaged."""
    if len(message) < 38:
        return None
    version, place = int.from_bytes(message[:2]), 35 + message[34]
    cipher = int.from_bytes(message[place : place + 2])
    if len(message) < place + 3:
        return None
    extensions = message[place + 5 :]
    while len(extensions) >= 4:
        kind, size = int.from_bytes(extensions[:2]), int.from_bytes(extensions[2:4])
        if kind == _SUPPORTED_VERSIONS and size == 2:
            version = int.from_bytes(extensions[4:6])
        extensions = extensions[4 + size :]
    return (_VERSIONS[version], _CIPHERS.get(cipher, "")) if version in _VERSIONS else None
