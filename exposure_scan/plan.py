"""Which question goes to which port of a target: data/ports.toml, and what the operator declared.

The plan decides nothing about what a port is. It only says where to knock and in whose words to begin.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from typing import Literal

from .model import Address, Question, Site

_VOICEMAIL = "voicemail, where the operator says it was moved"
_EXPECTED = "a service that the operator expects here"
_ASKED = "a port that the operator asked for"
_MOVED = "a port that the wide sweep found open, perhaps voicemail that was moved"


@cache
def _rows() -> tuple[tuple[Question, bool], ...]:
    """The file's questions in its order, each with whether it is the canary."""
    document = tomllib.loads((files(__package__) / "data" / "ports.toml").read_text("utf-8"))
    return tuple(
        (Question(row["transport"], row["port"], row["probe"], row["why"]), row.get("canary", False))
        for row in document["port"]
    )


EVERY_PORT = range(1, 65536)
"""The TCP ports of a wide sweep, those of the plan among them."""

CANARY: Question = next(question for question, canary in _rows() if canary)
"""The TCP port that nobody serves. Where it is open, something on the way accepts everything."""


def default_ports() -> tuple[str, ...]:
    """Every port of the default plan, as ``tcp/25``: what the other end of a vantage check has to serve."""
    return tuple(dict.fromkeys(str(question) for question, _ in _rows() if question.transport != "icmp"))


def questions(address: Address, site: Site, ports: str | tuple[str, ...] = "default") -> tuple[Question, ...]:
    """What to ask this address, the most telling first, no port twice.

    `ports` is ``default``, ``wide`` (the same, before a sweep of `swept_ports`), or keys such as ``tcp/25``
    for exactly those. Ping and the canary are always among the questions; declared ports are in default
    and wide.

    Raises:
        ValueError: `ports` is another word, or a key is no port.
    """
    if isinstance(ports, str) and ports not in ("default", "wide"):
        raise ValueError(f"default, wide or a tuple of keys is expected, not {ports!r}")
    found: dict[str, Question] = {}
    for question in _all(address, site, ports):
        found.setdefault(str(question), question)
    return tuple(found.values())


def swept_ports(asked: Iterable[Question], ports: str | tuple[str, ...] = "wide") -> tuple[int, ...]:
    """The TCP ports that are only knocked at, beside those asked: all others if `ports` is ``wide``, else none."""
    if ports != "wide":
        return ()
    known = {question.port for question in asked if question.transport == "tcp"}
    return tuple(port for port in EVERY_PORT if port not in known)


def moved(port: int) -> Question:
    """What to ask a port that the wide sweep found open."""
    return Question("tcp", port, "moved", _MOVED)


def _all(address: Address, site: Site, ports: str | tuple[str, ...]) -> Iterator[Question]:
    echo = "echo" if address.version == 4 else "echo6"
    known = {str(question): question for question, _ in _rows() if question.transport != "icmp"}
    yield next(question for question, _ in _rows() if question.probe == echo)
    if not isinstance(ports, str):
        for key in ports:
            transport, port = _read(key)
            yield known.get(key) or _unknown(transport, port, _ASKED)
        yield CANARY
        return
    yield from known.values()
    for port in site.voicemail.values():
        yield Question("tcp", port, "greeting", _VOICEMAIL)
    for key in site.expect:
        transport, port = _read(key)
        yield _unknown(transport, port, _EXPECTED)


def _unknown(transport: Literal["tcp", "udp"], port: int, why: str) -> Question:
    return Question(transport, port, "any" if transport == "tcp" else "sip-udp", why)


def _read(key: str) -> tuple[Literal["tcp", "udp"], int]:
    transport, _, port = key.partition("/")
    if transport not in ("tcp", "udp") or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(f"tcp/25 or udp/5060 is expected, not {key!r}")
    return ("udp" if transport == "udp" else "tcp"), int(port)
