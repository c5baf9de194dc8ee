"""How every question in datagrams is asked: up to three times, until an answer that is surely to it.

Each protocol brings its request and says which datagram answers it; the asking itself stands here once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from exposure_scan.conversation import (
    Caller,
    Connect,
    Connected,
    End,
    Heard,
    Observation,
    Receive,
    Reply,
    Request,
    Send,
)

from .words import first_line, printable

WAITS = (0.3, 0.7, 1.2)  # seconds of listening after each try: sent at 0, 0.3 and 1.0, over at 2.2
_LIMIT = 65536


@dataclass(slots=True)
class Asked:
    """What came: the answer, and the first datagram that was none."""

    answer: bytes | None = None
    strange: bytes | None = None


def ask(
    request: Callable[[Connected], bytes],
    wanted: Callable[[bytes], bool],
    *,
    waits: tuple[float, ...] = WAITS,
    again: Callable[[], bool] = lambda: True,
    prompt: bool = True,
) -> Generator[Request, Reply, Asked]:
    """Send the request once for each of `waits` (seconds) and listen in between.

    `again` is asked before each repetition; where it says no, the rest of the time is listened only.
    `prompt` is `Receive.prompt` of the last wait.
    An ICMP error (the driver's `End.RESET`) ends the asking at once: nobody is there.
    """
    asked = Asked()

    def enough(data: bytes) -> bool:
        if wanted(data):
            return True
        if asked.strange is None:
            asked.strange = data
        return False

    connected = yield Connect()
    if not isinstance(connected, Connected):
        return asked
    data = request(connected)
    for number, seconds in enumerate(waits):
        if number == 0 or again():
            yield Send(data)
        heard = yield Receive(enough, seconds, _LIMIT, prompt=prompt and number == len(waits) - 1)
        if isinstance(heard, Heard) and heard.end is End.ENOUGH:
            asked.answer = heard.data
            break
        if isinstance(heard, Heard) and heard.end is End.RESET:
            break
    return asked


def inquire(
    service: str,
    request: bytes,
    read: Callable[[bytes], Observation | None],
) -> Generator[Request, Reply, Observation]:
    """Ask and report. `read` turns the answer into an observation, and anything else into None."""
    asked = yield from ask(lambda _: request, lambda data: read(data) is not None)
    found = read(asked.answer) if asked.answer is not None else None
    if found is not None:
        return found
    if asked.strange is None:
        return Observation()
    return _strange(asked.strange, f"A datagram came that is no {service} answer to our request.")


def _strange(data: bytes, note: str) -> Observation:
    """Something answered, even if with an empty datagram, and it is not understood."""
    return Observation(banner=first_line(data), answered=True, notes=(note,))


def empty() -> Generator[Request, Reply, Observation]:
    """Empty datagrams, for a port whose protocol has no public message (udp/2088)."""
    asked = yield from ask(lambda _: b"", lambda _: True)
    if asked.answer is None:
        return Observation()
    return _strange(asked.answer, "It answered an empty datagram; what it speaks is not known.")


def hop(caller: Caller) -> Generator[Request, Reply, Observation]:
    """A datagram that names us, for a packet that lives a few hops only: a router's ICMP error is the answer."""
    words = printable(caller.agent).encode("ascii")
    asked = yield from ask(lambda _: words, lambda _: True, waits=(0.5, 1.0))
    if asked.answer is None:
        return Observation()
    return _strange(asked.answer, "It answered a datagram to a port of the path probe.")
