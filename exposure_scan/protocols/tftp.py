"""TFTP: a read request for a file that will not exist (RFC 1350); the refusal shows the server."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial

from exposure_scan.conversation import Observation, Reply, Request

from .datagram import inquire
from .words import NAME, text, unique

_READ, _DATA, _ERROR = b"\0\1", b"\0\3", b"\0\5"
_FIRST_BLOCK = b"\0\1"
_LAST_CODE = 8  # RFC 2347


def tftp(token: str) -> Generator[Request, Reply, Observation]:
    """Ask for a file that names this product.

    A server answers from a fresh port of its own (RFC 1350, section 4), which a connected socket does
    not hear: only one that answers from port 69, as simple devices do, is seen. Silence therefore
    stays open|filtered. The protocol has no id; address and port are all that ties an answer to us.
    """
    name = f"{NAME}-{unique(token, 'tftp').hex()}"
    request = _READ + name.encode("ascii") + b"\0octet\0"
    return (yield from inquire("TFTP", request, partial(read, request)))


def read(request: bytes, data: bytes) -> Observation | None:
    """What `data` says as the answer to `request`; None where it is none, or the request asks for no file."""
    if request[:2] == _READ and request.count(b"\0", 2) >= 2:  # a name and a mode
        if data[:2] == _ERROR and len(data) >= 5 and data[2] == 0 and data[3] <= _LAST_CODE and data[-1] == 0:
            words = text(data[4:].split(b"\0")[0])
            return Observation("tftp", f"TFTP error {data[3]}: {words}"[:1000], answered=True, valid=True)
        if data[:4] == _DATA + _FIRST_BLOCK and len(data) <= 516:
            return Observation("tftp", "TFTP data", answered=True, valid=True)
    return None
