"""SNMP: version 3 discovery (RFC 3414, section 4), which needs no community and no user.

The agent reports its engine id, and in that the number of its maker (RFC 3411, section 5).
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial

from exposure_scan.conversation import Observation, Reply, Request

from .datagram import inquire
from .words import unique

_INTEGER, _OCTETS, _SEQUENCE = 0x02, 0x04, 0x30
_GET_REQUEST, _RESPONSE, _REPORT = 0xA0, 0xA2, 0xA8
_REPORTABLE = b"\x04"
_USM = 3  # the user-based security model
_MOST = 65507  # bytes of a message over UDP


class _Malformed(Exception):  # noqa: N818 - the peer's, not ours
    """What came is no BER of the form that is read here."""


def snmp(token: str) -> Generator[Request, Reply, Observation]:
    """Discover the engine. Fields: snmp.engine-id (hex) and snmp.enterprise (a number)."""
    message_id = int.from_bytes(unique(token, "snmp-message", size=4)) & 0x7FFFFFFF
    request_id = int.from_bytes(unique(token, "snmp-request", size=4)) & 0x7FFFFFFF
    request = _discovery(message_id, request_id)
    return (yield from inquire("SNMPv3", request, partial(read, request)))


def read(request: bytes, data: bytes) -> Observation | None:
    """What `data` says as the answer to `request`; None where it is none, or the request is not of version 3."""
    try:
        engine = _engine_of_report(data, _opened(request)[0])
    except _Malformed:
        return None
    said = {"snmp.engine-id": engine.hex()} if engine else {}
    if len(engine) >= 5:
        said["snmp.enterprise"] = str(int.from_bytes(engine[:4]) & 0x7FFFFFFF)
    banner = "SNMPv3"
    if "snmp.enterprise" in said:
        banner += f", enterprise {said['snmp.enterprise']}"
    return Observation("snmp", banner, said, answered=True, valid=True)


# --- writing -------------------------------------------------------------------------------------


def _item(tag: int, content: bytes) -> bytes:
    assert len(content) < 128, "the request is short; long lengths are never written"
    return bytes((tag, len(content))) + content


def _integer(value: int) -> bytes:
    return _item(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1))


def _discovery(message_id: int, request_id: int) -> bytes:
    nothing = _item(_OCTETS, b"")
    header = _integer(message_id) + _integer(_MOST) + _item(_OCTETS, _REPORTABLE) + _integer(_USM)
    security = _item(_SEQUENCE, nothing + _integer(0) + _integer(0) + nothing + nothing + nothing)
    pdu = _item(_GET_REQUEST, _integer(request_id) + _integer(0) + _integer(0) + _item(_SEQUENCE, b""))
    return _item(
        _SEQUENCE,
        _integer(3) + _item(_SEQUENCE, header) + _item(_OCTETS, security) + _item(_SEQUENCE, nothing + nothing + pdu),
    )


# --- reading -------------------------------------------------------------------------------------


def _take(data: bytes, *tags: int) -> tuple[int, bytes, bytes]:
    """The first item of `data`: its tag, its content, and what follows it."""
    if len(data) < 2 or (tags and data[0] not in tags):
        raise _Malformed
    size, start = data[1], 2
    if size & 0x80:
        wide = size & 0x7F
        if not 1 <= wide <= 3 or len(data) < 2 + wide:
            raise _Malformed
        size, start = int.from_bytes(data[2 : 2 + wide]), 2 + wide
    if len(data) < start + size:
        raise _Malformed
    return data[0], data[start : start + size], data[start + size :]


def _number(data: bytes) -> tuple[int, bytes]:
    _, content, rest = _take(data, _INTEGER)
    if not 1 <= len(content) <= 5:
        raise _Malformed
    return int.from_bytes(content, signed=True), rest


def _opened(data: bytes) -> tuple[int, bytes]:
    """The id of a message of version 3, and what follows its header."""
    _, message, _ = _take(data, _SEQUENCE)
    version, rest = _number(message)
    _, header, rest = _take(rest, _SEQUENCE)
    if version != 3:
        raise _Malformed
    return _number(header)[0], rest


def _engine_of_report(data: bytes, message_id: int) -> bytes:
    """The engine id in a report to our message.

    Raises:
        _Malformed: it is something else.
    """
    its_id, rest = _opened(data)
    if its_id != message_id:
        raise _Malformed
    _, security, scoped = _take(rest, _OCTETS)
    _, parameters, _ = _take(security, _SEQUENCE)
    _, engine, _ = _take(parameters, _OCTETS)
    _, scoped, _ = _take(scoped, _SEQUENCE)
    _, _, rest = _take(scoped, _OCTETS)
    _, _, rest = _take(rest, _OCTETS)
    _take(rest, _REPORT, _RESPONSE)
    if len(engine) > 32:  # RFC 3411: 5 to 32 octets
        raise _Malformed
    return engine
