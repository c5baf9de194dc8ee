"""L2TP: a request to open a control connection (SCCRQ), and its end where one is granted (RFC 2661)."""

from __future__ import annotations

import struct
from collections.abc import Generator

from exposure_scan.conversation import Observation, Reply, Request, Send

from .datagram import inquire
from .words import NAME, unique

_HEADER = struct.Struct("!HHHHHH")  # flags, length, tunnel, session, Ns, Nr
_CONTROL = 0xC802  # type, length and sequence bits, version 2
_SCCRQ, _SCCRP, _STOP = 1, 2, 4
_TYPE, _RESULT, _VERSION, _FRAMING, _HOST_NAME, _TUNNEL = 0, 1, 2, 3, 7, 9


def _value(kind: int, value: bytes) -> bytes:
    return struct.pack("!HHH", 0x8000 | 6 + len(value), 0, kind) + value


def _message(tunnel: int, sent: int, received: int, *values: bytes) -> bytes:
    body = b"".join(values)
    return _HEADER.pack(_CONTROL, _HEADER.size + len(body), tunnel, 0, sent, received) + body


def _values(data: bytes) -> dict[int, bytes]:
    """The attribute-value pairs of the IETF in a control message (section 4.1), the readable ones."""
    values: dict[int, bytes] = {}
    while len(data) >= 6:
        size, vendor, kind = struct.unpack_from("!HHH", data)
        size &= 0x3FF
        if not 6 <= size <= len(data):
            break
        if vendor == 0:
            values.setdefault(kind, data[6:size])
        data = data[size:]
    return values


def l2tp(token: str) -> Generator[Request, Reply, Observation]:
    """Ask for a control connection; the answer must be addressed to the tunnel id that we chose."""
    ours = int.from_bytes(unique(token, "l2tp", size=2)) or 1
    our_id = _value(_TUNNEL, struct.pack("!H", ours))
    request = _message(
        0,
        0,
        0,
        _value(_TYPE, struct.pack("!H", _SCCRQ)),
        _value(_VERSION, b"\1\0"),
        _value(_FRAMING, struct.pack("!L", 3)),
        _value(_HOST_NAME, NAME.encode("ascii")),
        our_id,
    )
    granted: list[int] = []  # the peer's tunnel id

    def heard(data: bytes) -> Observation | None:
        seen = read(request, data)
        kind, _, its_id = _control(data) or (None, 0, None)
        if seen is not None and kind == _SCCRP and its_id is not None:
            granted.append(its_id)
        return seen

    seen = yield from inquire("L2TP", request, heard)
    if granted:  # say goodbye, or the peer repeats its answer for half a minute
        stop = (_value(_TYPE, struct.pack("!H", _STOP)), our_id, _value(_RESULT, struct.pack("!H", 1)))
        yield Send(_message(granted[0], 1, 1, *stop))
    return seen


def read(request: bytes, data: bytes) -> Observation | None:
    """What `data` says as the answer to `request`; None where it is none, or the request opens nothing."""
    asked, answer = _control(request), _control(data)
    if asked is None or answer is None or asked[0] != _SCCRQ or answer[1] != asked[2]:
        return None
    word = {_SCCRP: "accepts", _STOP: "refuses", 0: "acknowledges"}.get(answer[0], "answers")
    return Observation("l2tp", f"L2TP {word} a control connection", answered=True, valid=True)


def _control(data: bytes) -> tuple[int, int, int | None] | None:
    """A control message's type, the tunnel it is addressed to and the one that it assigns; None for anything else."""
    if len(data) < _HEADER.size:
        return None
    flags, length, tunnel, session, _, _ = _HEADER.unpack_from(data)
    if flags & 0xC80F != _CONTROL or session or not _HEADER.size <= length <= len(data):
        return None
    values = _values(data[_HEADER.size : length])
    assigned = values.get(_TUNNEL, b"")
    kind = int.from_bytes(values.get(_TYPE, b"\0\0")[:2])
    return kind, tunnel, int.from_bytes(assigned) if len(assigned) == 2 else None
