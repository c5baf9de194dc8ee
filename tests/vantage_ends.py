"""Both ends of the vantage check, for its tests. Everybody in it is synthetic."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from conversations import CALLER, hold

from exposure_scan import scope, vantage
from exposure_scan.lab.network import add_address
from exposure_scan.plan import default_ports
from exposure_scan.protocols.vantage import HELLO, answer
from exposure_scan.sweep.vantage import Check, Reach, check

HOST, HOST6, BEHIND, PROXY = "198.18.78.10", "2001:db8:78::10", "198.18.78.11", "198.18.78.12"  # ours, all of them
BEHIND6 = "2001:db8:78::11"
KEY, OTHER = b"synthetic-key-of-the-tests", b"another-synthetic-key-entirely"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
GREETING = b"220 mail.synthetic.invalid ESMTP\r\n"
PORT = "udp/5060"


def own_addresses() -> None:
    for address in (HOST, BEHIND, PROXY, HOST6, BEHIND6):
        with suppress(FileExistsError):
            add_address(address)


def order(*targets: str) -> scope.Order:
    return scope.order_from_words(targets, authorized_by="Synthetic owner", clock=lambda: NOW)


async def checked(host: str = HOST, key: bytes = KEY) -> Check:
    return await check(order(host), key, clock=lambda: NOW)


def serve(
    ports: Sequence[str] | None = None, *, key: bytes = KEY, listen: str = HOST
) -> AbstractAsyncContextManager[vantage.Serving]:
    return vantage.serving(default_ports() if ports is None else ports, partial(answer, key), HELLO, listen=listen)


def without(*ports: str) -> list[str]:
    return [port for port in default_ports() if port not in ports]


def but_ok(done: Check) -> dict[str, tuple[Reach, str]]:
    """What is said of the ports that are not ok; the others must be those of the plan."""
    assert tuple(one.port for one in done.found) == default_ports()
    return {one.port: (one.reach, one.because) for one in done.found if one.reach is not Reach.OK}


def hello(number: int, port: str = PORT, key: bytes = KEY) -> bytes:
    transport, _, to = port.partition("/")
    talk = hold(f"vantage-{transport}", caller=replace(CALLER, secret=key), token=f"{number:016x}", port=int(to))
    return talk.sent[0]


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GREETING)
    with suppress(OSError):
        await reader.read()
    writer.close()
