"""DNS: the address of a name that cannot exist, to see whether a server answers, and for strangers too.

Recursion is desired in the question; whether it is offered shows in the answer (RFC 1035, section 4.1.1).
Names under .invalid exist nowhere (RFC 2606).
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from functools import partial

from exposure_scan.conversation import Observation, Reply, Request

from .datagram import inquire
from .words import OUR_HOST, unique

_HEADER = struct.Struct("!HHHHHH")
_ANSWER, _RECURSION_DESIRED, _RECURSION_AVAILABLE, _OPCODE = 0x8000, 0x0100, 0x0080, 0x7800
_LONGEST_LABEL = 63
_RCODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")


def dns(token: str) -> Generator[Request, Reply, Observation]:
    """Ask for an A record. Fields: dns.rcode (name or number) and dns.ra ("1" where recursion is offered to us).

    A server may set the flag and refuse all the same: then it offers nothing to strangers.
    """
    id_ = int.from_bytes(unique(token, "dns-id", size=2))
    name = f"{unique(token, 'dns-name').hex()}.{OUR_HOST}"
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split("."))
    question = labels + b"\0" + struct.pack("!HH", 1, 1)
    request = _HEADER.pack(id_, _RECURSION_DESIRED, 1, 0, 0, 0) + question
    return (yield from inquire("DNS", request, partial(read, request)))


def read(request: bytes, data: bytes) -> Observation | None:
    """What `data` says as the answer to `request`; None where it is none, or the request no query."""
    if min(len(request), len(data)) < _HEADER.size:
        return None
    id_, asks, count, *_ = _HEADER.unpack_from(request)
    its_id, flags, questions, *_ = _HEADER.unpack_from(data)
    question = _question(request)
    if asks & (_ANSWER | _OPCODE) or count != 1 or question is None:
        return None
    if its_id != id_ or not flags & _ANSWER or flags & _OPCODE:
        return None
    code = flags & 0xF
    asked = data[_HEADER.size : _HEADER.size + len(question)].lower()
    # A server that refuses may leave the question out; one that repeats it must repeat ours.
    if not (questions == 1 and asked == question.lower()) and not (questions == 0 and code):
        return None
    rcode = _RCODES[code] if code < len(_RCODES) else str(code)
    offered = "1" if flags & _RECURSION_AVAILABLE and rcode != "REFUSED" else "0"
    banner = f"DNS {rcode}, recursion {'offered' if offered == '1' else 'not offered'}"
    return Observation("dns", banner, {"dns.rcode": rcode, "dns.ra": offered}, answered=True, valid=True)


def _question(request: bytes) -> bytes | None:
    """The name, type and class that the request asks for; None where it ends before."""
    end = _HEADER.size
    while end < len(request) and 0 < request[end] <= _LONGEST_LABEL:
        end += 1 + request[end]
    if end + 5 > len(request) or request[end]:
        return None
    return request[_HEADER.size : end + 5]
