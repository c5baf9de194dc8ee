"""Ping: through a raw socket, the kernel's ping socket, the system's ping, or not at all."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import peers
import pytest
from conversations import CALLER
from hypothesis import given
from hypothesis import strategies as st
from peers import (
    HOST,
    HOST6,
    ROUTER,
    SILENT,
    admitted,
    ask,
    probe,
    run,
)

from exposure_scan.conversation import Exchange
from exposure_scan.model import Echo
from exposure_scan.protocols import conversation
from exposure_scan.transport import Gate
from exposure_scan.transport.echo import with_identifier


@pytest.fixture(scope="module", autouse=True)
def own_addresses() -> None:
    peers.own_addresses()


def answer_of(exchange: Exchange) -> tuple[str, str, str | None]:
    return exchange.state.value, exchange.reason, exchange.by


BOTH = pytest.mark.parametrize(("host", "name"), [(HOST, "echo"), (HOST6, "echo6")])


@pytest.fixture
def sysctl() -> Iterator[Callable[[str, str], None]]:
    """Change a setting of this private network, for one test."""
    before: dict[Path, str] = {}

    def change(name: str, value: str) -> None:
        path = Path("/proc/sys/net", name)
        before.setdefault(path, path.read_text())
        path.write_text(value)

    yield change
    for path, value in before.items():
        with suppress(OSError):  # an ordinary user's network may not name groups that it does not have
            path.write_text(value)


@BOTH
def test_an_address_that_answers_ping(host: str, name: str) -> None:
    async def main() -> None:
        gate, whom = admitted(host)
        exchange = await ask(gate, whom, "icmp", 0, probe(name))
        assert answer_of(exchange) == ("replied", "echo-reply", host)
        assert exchange.tries == 1
        assert exchange.rtt_ms is not None
        asked, answered = (event.data for event in exchange.events if event.what in ("sent", "received"))
        assert (asked[0], answered[0]) == ((8, 0) if name == "echo" else (128, 129))
        assert asked[4:] == answered[4:]

    run(main())


@BOTH
def test_an_address_that_is_silent_was_asked_three_times(
    host: str, name: str, sysctl: Callable[[str, str], None]
) -> None:
    sysctl("ipv4/icmp_echo_ignore_all" if name == "echo" else "ipv6/icmp/echo_ignore_all", "1")

    async def main() -> None:
        gate, whom = admitted(host)
        async with peers.wire() as seen:
            exchange = await ask(gate, whom, "icmp", 0, probe(name))
            assert len(seen.to(host)) == exchange.tries == 3
        assert answer_of(exchange) == ("silent", "no-response", None)
        assert exchange.rtt_ms is None

    run(main())


def test_where_nobody_is_nothing_answers() -> None:
    async def main() -> None:
        gate, whom = admitted(SILENT)
        exchange = await ask(gate, whom, "icmp", 0, probe("echo"))
        assert answer_of(exchange) == ("silent", "no-response", None)

    run(main())


@pytest.mark.parametrize(
    ("says", "state", "reason"),
    [(ROUTER, "silent", "no-response"), ("198.51.100.250", "unmeasured", "local-error: icmp-host-unreachable")],
)
def test_an_error_from_a_router_is_no_reply_and_our_own_kernels_is_no_measurement(
    says: str, state: str, reason: str
) -> None:
    async def main() -> None:
        gate, whom = admitted(SILENT)
        async with peers.router(3, 1, about=SILENT, says=says):
            exchange = await ask(gate, whom, "icmp", 0, probe("echo"))
        assert answer_of(exchange) == (state, reason, None)
        assert bool(exchange.events) == (state == "silent")  # a record would say that silence was measured

    run(main())


def test_pings_at_the_same_time_do_not_take_each_others_replies() -> None:
    async def main() -> None:
        gate, whom = admitted()
        tokens = [f"{number:016x}" for number in range(5)]
        asked = [ask(gate, whom, "icmp", 0, partial(conversation, "echo", token, CALLER)) for token in tokens]
        for exchange in await asyncio.gather(*asked):
            assert exchange.state is Echo.REPLIED
            sent = [event.data for event in exchange.events if event.what == "sent"]
            assert [event.data[4:] for event in exchange.events][-1] == sent[0][4:]

    run(main())


def no_raw_sockets(gate: Gate, monkeypatch: pytest.MonkeyPatch, *, nor_ping_sockets: bool = False) -> None:
    opening = gate._open

    def refuse(held: Any, family: int, kind: int, protocol: int = 0) -> socket.socket:
        if kind == socket.SOCK_RAW or (nor_ping_sockets and protocol):
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return opening(held, family, kind, protocol)

    monkeypatch.setattr(gate, "_open", refuse)


@BOTH
def test_without_raw_sockets_the_kernels_ping_socket_asks(
    host: str, name: str, monkeypatch: pytest.MonkeyPatch, sysctl: Callable[[str, str], None]
) -> None:
    sysctl("ipv4/ping_group_range", "0 0")

    async def main() -> None:
        gate, whom = admitted(host)
        no_raw_sockets(gate, monkeypatch)
        exchange = await ask(gate, whom, "icmp", 0, probe(name))
        assert answer_of(exchange) == ("replied", "echo-reply", host)
        asked, answered = (event.data for event in exchange.events if event.what in ("sent", "received"))
        assert asked[4:6] == answered[4:6]  # the identifier that the conversation chose, not the kernel's
        if name == "echo":
            assert peers.checksum(answered + b"\0" * (len(answered) % 2)) == 0

    run(main())


def test_without_any_icmp_socket_and_without_ping_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        gate, whom = admitted()
        no_raw_sockets(gate, monkeypatch, nor_ping_sockets=True)
        monkeypatch.setattr("shutil.which", lambda program: None)
        async with peers.wire() as seen:
            exchange = await ask(gate, whom, "icmp", 0, probe("echo"))
            assert seen.packets == []
        assert answer_of(exchange) == ("unmeasured", "no-permission", None)
        assert (exchange.tries, exchange.events) == (0, ())

    run(main())


@pytest.mark.parametrize(
    ("code", "state", "reason", "runs", "tries"),
    [
        (0, "replied", "echo-reply", 1, 1),
        (1, "silent", "no-response", 3, 3),
        (2, "unmeasured", "no-permission", 3, 0),  # ping's own trouble
    ],
)
@pytest.mark.parametrize("host", [HOST, HOST6])
def test_the_systems_ping_asks_where_we_may_not(
    host: str,
    code: int,
    state: str,
    reason: str,
    runs: int,
    tries: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    ping = program(tmp_path, f'echo "$@" >> {tmp_path}/calls\nexit {code}')
    monkeypatch.setattr("shutil.which", {"ping": str(ping)}.get)

    async def main() -> None:
        gate, whom = admitted(host)
        monkeypatch.setattr(gate, "icmp", nothing)
        exchange = await ask(gate, whom, "icmp", 0, probe("echo"))
        assert answer_of(exchange) == (state, reason, host if state == "replied" else None)
        assert exchange.tries == tries
        assert [event.what for event in exchange.events] == (["silent"] if state == "silent" else [])

    run(main(), real_time=True)  # a program does not skip its waits
    assert (tmp_path / "calls").read_text().splitlines() == [f"-c 1 -W 1 {host}"] * runs


def test_a_ping_that_hangs_is_killed_and_has_measured_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ping = program(tmp_path, f"echo $$ > {tmp_path}/pid\nexec sleep 600")
    monkeypatch.setattr("shutil.which", {"ping": str(ping)}.get)

    async def main() -> None:
        gate, whom = admitted()
        monkeypatch.setattr(gate, "icmp", nothing)
        exchange = await ask(gate, whom, "icmp", 0, probe("echo"), deadline=0.5)
        assert answer_of(exchange) == ("unmeasured", "no-permission", None)

    run(main(), real_time=True)
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def program(folder: Path, script: str) -> Path:
    path = folder / "ping"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return path


async def nothing(whom: object) -> None:
    """What the gate's `icmp` says where this process may not."""


@given(content=st.binary(max_size=64), before=st.integers(0, 0xFFFF), after=st.integers(0, 0xFFFF))
def test_a_message_with_another_identifier_has_the_checksum_for_it(content: bytes, before: int, after: int) -> None:
    def message(identifier: int) -> bytes:
        rest = struct.pack("!HH", identifier, 1) + content[: len(content) // 2 * 2]
        return struct.pack("!BBH", 0, 0, peers.checksum(b"\0\0\0\0" + rest)) + rest

    assert with_identifier(message(before), after.to_bytes(2)) == message(after)
