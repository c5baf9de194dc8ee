"""IKE: the opening message of version 1 main mode (RFC 2409, section 5; payloads RFC 2408, section 3).

Version 1, because the older and simpler VPN gateways that a phone system sits beside speak only that,
and servers that speak both answer it too. The offer names common suites; no key is tried. A vendor ID says who
asks (section 3.16: whoever does not know it passes over it), and gateways write it to their log.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from functools import partial

from exposure_scan.conversation import Caller, Observation, Reply, Request

from .datagram import inquire
from .words import printable, unique

_HEADER = struct.Struct("!8s8sBBBBLL")
_NON_ESP = bytes(4)  # RFC 3948, section 2.2: IKE on port 4500 begins with it
_SA, _NOTIFY, _VENDOR, _MAIN_MODE = 1, 11, 13, 2

# RFC 2409, appendix A: encryption 7 AES (with key length 256) or 5 3DES; hash 4 SHA-256 or 2 SHA-1;
# authentication 1 pre-shared key or 3 RSA signatures; group 14 or 2; a life of 28,800 seconds.
_SUITES = tuple(
    (cipher, digest, by, group)
    for cipher, digest, group in ((7, 4, 14), (7, 2, 14), (7, 2, 2), (5, 2, 2))
    for by in (1, 3)
)


def _attribute(kind: int, value: int) -> bytes:
    return struct.pack("!HH", 0x8000 | kind, value)


def _transform(number: int, suite: tuple[int, int, int, int]) -> bytes:
    cipher, digest, by, group = suite
    attributes = _attribute(1, cipher) + (_attribute(14, 256) if cipher == 7 else b"")
    attributes += _attribute(2, digest) + _attribute(3, by) + _attribute(4, group)
    attributes += _attribute(11, 1) + _attribute(12, 28800)
    following = 3 if number < len(_SUITES) else 0
    return struct.pack("!BBHBBH", following, 0, 8 + len(attributes), number, 1, 0) + attributes


def _opening(cookie: bytes, vendor: bytes) -> bytes:
    transforms = b"".join(_transform(number, suite) for number, suite in enumerate(_SUITES, 1))
    proposal = struct.pack("!BBHBBBB", 0, 0, 8 + len(transforms), 1, 1, 0, len(_SUITES)) + transforms
    payload = struct.pack("!BBHLL", _VENDOR, 0, 12 + len(proposal), 1, 1) + proposal  # IPsec, identity only
    payload += struct.pack("!BBH", 0, 0, 4 + len(vendor)) + vendor
    return _HEADER.pack(cookie, bytes(8), _SA, 0x10, _MAIN_MODE, 0, 0, _HEADER.size + len(payload)) + payload


def ike(token: str, caller: Caller, *, nat_t: bool = False) -> Generator[Request, Reply, Observation]:
    """Open main mode; the answer, a refusal too, must carry our initiator's cookie."""
    cookie = unique(token, "ike")
    marker = _NON_ESP if nat_t else b""
    request = marker + _opening(cookie, printable(caller.agent).encode("ascii"))
    return (yield from inquire("IKE", request, partial(read, request)))


def read(request: bytes, data: bytes) -> Observation | None:
    """What `data` says as the answer to `request`; None where it is none, or the request no message of IKE."""
    marker = _NON_ESP if request.startswith(_NON_ESP) else b""
    if not data.startswith(marker) or data == request:  # the same words sent back are no answer
        return None
    asked, message = _header(request[len(marker) :]), _header(data[len(marker) :])
    if asked is None or message is None or asked[0] != message[0]:
        return None
    _, following, version = message
    word = {_SA: "accepts an offer", _NOTIFY: "refuses the offers"}.get(following, "answers")
    return Observation("ike", f"IKEv{version} {word}", answered=True, valid=True)


def _header(message: bytes) -> tuple[bytes, int, int] | None:
    """The initiator's cookie, the kind of the first payload and the version; None for what is no IKE."""
    if len(message) < _HEADER.size:
        return None
    initiator, _, following, version, _, _, _, length = _HEADER.unpack_from(message)
    if not any(initiator) or version >> 4 not in (1, 2) or not _HEADER.size <= length <= len(message):
        return None
    return initiator, following, version >> 4
