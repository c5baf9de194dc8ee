"""Hosts that mean harm: what a compromised machine may do to a scanner, at addresses of their own.

Every word here is synthetic. A *trap* is what a host does on some of its ports (see `traps` for streams and
`forgers` for whole packets); beside it the host may serve one honest SIP service, so that a test can see whether
the rest of the host is still judged rightly.

``python -m exposure_scan.lab.hostile ADDRESS=TRAP[+]...`` serves them until its standard input closes; the
plus adds the honest service. For use inside the private network alone.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress

from . import forgers, network
from .devices import Device, Service, served
from .services import serve, until_closed
from .traps import TRAPS, Act, Talk

HONEST = Service("udp", 5060, "sip")


@contextmanager
def running(places: Sequence[str]) -> Iterator[None]:
    """The hosts of texts such as ``198.18.66.1=endless+``, in a process of their own while the context lasts.

    Raises:
        OSError: they did not come up; outside the private network their addresses do not exist.
    """
    with served("exposure_scan.lab.hostile", places, "The hostile hosts"):
        yield


@asynccontextmanager
async def standing(address: str, trap: str, *, honest: bool) -> AsyncIterator[None]:
    """One host of `TRAPS`, with its address."""
    with suppress(FileExistsError):
        network.add_address(address)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serve([Device("hostile", address, (address,), (HONEST,) if honest else ())]))
        for port, act in TRAPS[trap].items():
            if act is None:
                stack.enter_context(_deaf(address, port))
            else:
                await stack.enter_async_context(_listening(address, port, act))
        yield


@contextmanager
def _deaf(address: str, port: int) -> Iterator[None]:
    with socket.create_server((address, port), backlog=64):
        yield


@asynccontextmanager
async def _listening(address: str, port: int, act: Act) -> AsyncIterator[None]:
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await act(Talk(reader, writer))
            writer.close()
            await writer.wait_closed()
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # how the scanner leaves is its own affair
        finally:
            writer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(connected, address, port)
    try:
        yield
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _serve_until_closed(places: Sequence[str]) -> None:
    async with AsyncExitStack() as stack:
        forging: dict[str, tuple[str, bool]] = {}
        for place in places:
            address, _, name = place.partition("=")
            trap, honest = name.removesuffix("+"), name.endswith("+")
            if trap in forgers.FORGERS:
                forging[address] = trap, honest
            else:
                await stack.enter_async_context(standing(address, trap, honest=honest))
        stack.enter_context(forgers.standing(forging))
        await until_closed()


if __name__ == "__main__":
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # how the scanner leaves is no news
    asyncio.run(_serve_until_closed(sys.argv[1:]))
