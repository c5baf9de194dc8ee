"""Whether a TCP port takes a connection, and nothing more: for the many ports of a wide sweep.

One attempt instead of two hedged ones, and we close the connection as soon as it stands. Not a byte
of payload is sent.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from exposure_scan.model import PortState, Target

from .carrier import LOST
from .connect import Attempt, part
from .gate import Gate
from .journal import NO_RESPONSE, Answer, Journal, local_error, ready

_SECOND_SYN = 1.0  # seconds after the first, by the kernel's count (RFC 6298, section 2)
_LAST_WAIT = 0.9  # seconds for the answer to the second, so that no third SYN leaves
_DEADLINE = 2.0


@dataclass(frozen=True, slots=True)
class Knock:
    """What came of one port, and the SYNs that it took."""

    state: PortState
    reason: str
    by: str | None
    tries: int


class _Brief(Attempt):
    """An attempt that gives up between the second SYN and the third."""

    async def _settled(self, sock: socket.socket, start: float, patience: float) -> bool:
        return await ready(sock, start + _SECOND_SYN + self._journal.patience(patience), write=True)


async def knock(gate: Gate, target: Target, port: int) -> Knock:
    """Connect, and close at once. Silence takes two SYNs, an answer ends it.

    Raises:
        NotAuthorized: the gate refused; nothing stays open.
    """
    carrier = gate.carriers.towards(target.address)
    attempt = _Brief(Journal(gate, target, _DEADLINE), port)
    try:
        answer: Answer = await attempt.run(_LAST_WAIT, begun=False)
        if attempt.socket is not None:
            await part(attempt.socket)
    finally:
        attempt.close()
    if answer.reason == NO_RESPONSE and not gate.carriers.held(carrier):
        answer = Answer(PortState.UNMEASURED, local_error(LOST))
    return Knock(PortState(answer.state), answer.reason, answer.by, attempt.tries)
