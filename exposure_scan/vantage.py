"""The partner's own machine that a scanner tries its ways out on, and what such a check left behind.

The only sockets of ours that listen on a real network. They answer who proves the shared key and
nobody else, never with more bytes than they got, and everything that a stranger can use up is bounded:
bytes, seconds, connections, questions a second.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, ValidationError

from .model import Frozen, Problem, Vantage
from .model.text import json_text

Answer: TypeAlias = Callable[[bytes, str, tuple[str, int]], bytes | None]
"""What to answer to a hello that came to a port (``tcp/25``) from an address and port; None: nothing."""

FRESH = timedelta(days=30)  # a check says something about scans for so long
KEY_VARIABLE = "EXPOSURE_SCAN_VANTAGE_KEY"

_SHORTEST_KEY, _LONGEST_KEY = 16, 4096  # bytes; what crosses the wire lets others try short keys at leisure
_PATIENCE = 5.0  # seconds for a whole hello
_CONNECTIONS, _CONNECTIONS_PER_SOURCE = 512, 128  # at once
_QUESTIONS, _QUESTIONS_PER_SOURCE = 5000, 250  # a second; a check asks 100
_REMEMBERED = 4096  # hellos, so that a copied one is not answered to somebody else
_READS = 64  # datagrams in one turn of the loop
_IP_PKTINFO = 8  # linux/in.h; Python names it from 3.12 on
_FAMILIES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}


# --- the key -------------------------------------------------------------------------------------


def read_key(path: Path | None, environment: Mapping[str, str] = os.environ) -> bytes:
    """The shared key: the text of a file, or of the variable `KEY_VARIABLE`, without blanks around it.

    Raises:
        Problem: there is none, or it is too short to be one.
    """
    how = "make one with: openssl rand -hex 32 > vantage.key, and give both machines the same"
    if path is None:
        text = environment.get(KEY_VARIABLE, "")
        where = KEY_VARIABLE
        if not text.strip():
            raise Problem(f"No shared key: name its file with --key-file, or set {KEY_VARIABLE}; {how}.")
        key = text.encode(errors="surrogateescape").strip()
    else:
        where = str(path)
        try:
            with path.open("rb") as file:
                key = file.read(_LONGEST_KEY + 1).strip()
        except OSError as error:
            raise Problem(f"{path} cannot be read ({error.strerror}); {how}.") from None
    if not _SHORTEST_KEY <= len(key) <= _LONGEST_KEY:
        raise Problem(f"The key in {where} has not {_SHORTEST_KEY} to {_LONGEST_KEY} bytes; {how}.")
    return key


# --- the server ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Serving:
    """Which ports are served, and which could not be had: one line a reason."""

    ports: tuple[str, ...]
    refused: tuple[str, ...]


@asynccontextmanager
async def serving(
    ports: Iterable[str], answer: Answer, size: int, *, listen: str | None = None
) -> AsyncIterator[Serving]:
    """Serve these ports (``tcp/25``) while the block runs.

    Args:
        ports: where to listen. One that cannot be had is told, and the rest is served.
        answer: see `Answer`.
        size: bytes of a hello. No more is read, and nothing else is looked at.
        listen: the one address to listen on; by default all of both families.

    Raises:
        Problem: `listen` is no address, or no port could be had.
    """
    server = _Server(answer, size)
    served: dict[str, None] = {}
    refused: dict[str, list[str]] = {}  # why -> ports
    async with server:
        for port in ports:
            for family, address in _addresses(listen):
                try:
                    await server.open(port, family, address)
                except OSError as error:
                    if listen is None and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                        continue  # a machine of one family
                    refused.setdefault(f"{_FAMILIES[family]}: {error.strerror or error}", []).append(port)
                else:
                    served[port] = None
        if not served:
            raise Problem(f"No port could be opened ({'; '.join(refused) or 'there is no network'}).")
        yield Serving(tuple(served), tuple(f"{why}: {', '.join(ports)}" for why, ports in refused.items()))


def _addresses(listen: str | None) -> list[tuple[socket.AddressFamily, str]]:
    if listen is None:
        return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]  # noqa: S104 - all is what is asked for
    try:
        address = ip_address(listen)
    except ValueError:
        raise Problem(f"--listen: an address of this machine is expected, as 198.51.100.7, not {listen!r}.") from None
    return [(socket.AF_INET if address.version == 4 else socket.AF_INET6, listen)]


class _Server:
    """The listening sockets and what they share: the bounds."""

    def __init__(self, answer: Answer, size: int) -> None:
        self._answer = answer
        self._size = size
        self._held = ExitStack()
        self._talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._connections: Counter[str] = Counter()
        self._second = 0
        self._all_questions = 0
        self._questions: Counter[str] = Counter()
        self._answered: OrderedDict[bytes, str] = OrderedDict()

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        self._held.close()
        for writer in self._talks.values():
            writer.transport.abort()
        await asyncio.gather(*self._talks, return_exceptions=True)
        await asyncio.sleep(0)  # connections are closed in the next turn of the loop

    async def open(self, port: str, family: socket.AddressFamily, address: str) -> None:
        """Listen.

        Raises:
            OSError: the port cannot be had.
        """
        transport, _, number = port.partition("/")
        kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
        with ExitStack() as held:
            sock = held.enter_context(socket.socket(family, kind | socket.SOCK_NONBLOCK))
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if transport == "tcp":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what a former run left in TIME_WAIT
                sock.bind((address, int(number)))
                server = await asyncio.start_server(partial(self._accept, port), sock=sock, limit=self._size)
                held.callback(server.close)
            else:
                sock.bind((address, int(number)))
                if family == socket.AF_INET:
                    sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
                else:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
                loop = asyncio.get_running_loop()
                loop.add_reader(sock, self._datagrams, port, sock)
                held.callback(loop.remove_reader, sock)
            self._held.push(held.pop_all())

    # --- streams ---------------------------------------------------------------------------------

    async def _accept(self, port: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = _endpoint(writer.get_extra_info("peername") or ("", 0))
        who = _source(source[0])
        if self._connections.total() >= _CONNECTIONS or self._connections[who] >= _CONNECTIONS_PER_SOURCE:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._talks[task] = writer
        self._connections[who] += 1
        try:
            async with asyncio.timeout(_PATIENCE):
                reply = self._reply(await reader.readexactly(self._size), port, source)
                if reply is not None:
                    writer.write(reply)
                    await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, OSError):
            pass  # silence is all that a stranger gets
        finally:
            del self._talks[task]
            self._connections[who] -= 1
            self._connections += Counter()  # forget who has none
            writer.close()

    # --- datagrams -------------------------------------------------------------------------------

    def _datagrams(self, port: str, sock: socket.socket) -> None:
        for _ in range(_READS):
            try:
                data, control, _flags, peer = sock.recvmsg(self._size + 1, 256)
            except OSError:  # nothing more lies there
                return
            reply = self._reply(data, port, _endpoint(peer))
            if reply is not None:
                with suppress(OSError):
                    sock.sendmsg([reply], _from_where_it_came(control), 0, peer)

    # --- both ------------------------------------------------------------------------------------

    def _reply(self, hello: bytes, port: str, source: tuple[str, int]) -> bytes | None:
        """What to answer, if anything. Never more bytes than came."""
        who = _source(source[0])
        if len(hello) != self._size or self._too_many(who):
            return None
        reply = self._answer(hello, port, source)
        if reply is None or len(reply) > len(hello):
            return None
        # A repeated datagram is asked again by its own sender; a copy from elsewhere is somebody else's.
        if self._answered.setdefault(hello, source[0]) != source[0]:
            return None
        while len(self._answered) > _REMEMBERED:
            self._answered.popitem(last=False)
        return reply

    def _too_many(self, who: str) -> bool:
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._second = second
            self._all_questions = 0
            self._questions.clear()
        if self._all_questions >= _QUESTIONS or self._questions[who] >= _QUESTIONS_PER_SOURCE:
            return True
        self._all_questions += 1
        self._questions[who] += 1
        return False


def _endpoint(sockaddr: tuple[Any, ...]) -> tuple[str, int]:
    return str(sockaddr[0]).split("%")[0], int(sockaddr[1])


def _source(address: str) -> str:
    """Whom the bounds count: an IPv4 address, or the /64 that one IPv6 customer has."""
    if ":" not in address:
        return address
    return IPv6Address(address).packed[:8].hex()


def _from_where_it_came(control: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Packet information that makes the answer leave from the address that was asked (ip(7), ipv6(7)).

    Without it a machine with several addresses answers from another one, and nobody hears.
    """
    for level, kind, data in control:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            return [(level, kind, struct.pack("=i4s4x", 0, data[4:8]))]
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return [(level, kind, data[:20])]
    return []


# --- what a check left behind --------------------------------------------------------------------


class Stored(Frozen):
    """The file that ``vantage check`` writes: the last check of this network."""

    schema_: Literal["exposure-scan/vantage/1"] = Field(
        default="exposure-scan/vantage/1", alias="schema", serialization_alias="schema"
    )
    host: str  # whom it was checked with
    vantage: Vantage

    def to_json(self) -> str:
        """The document, indented, ending in a newline."""
        return json_text(self.model_dump_json(indent=2, by_alias=True)) + "\n"


def stored_path() -> Path:
    """Where the last check stands: a file in the user's state folder."""
    from platformdirs import user_state_path

    return user_state_path("exposure-scan") / "vantage.json"


def load_stored(path: Path, now: datetime) -> Vantage | None:
    """The last check; None where there is none, it cannot be read, or it is older than `FRESH`.

    A check from the future is none either: some clock was wrong, and nobody knows its age.
    """
    try:
        vantage = Stored.model_validate_json(path.read_bytes()).vantage
    except (OSError, ValidationError):
        return None
    if not vantage.checked or vantage.on is None or vantage.on.tzinfo is None:
        return None
    return vantage if timedelta(0) <= now - vantage.on <= FRESH else None
