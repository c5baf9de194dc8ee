"""The only sockets: the gate, what drives conversations through it, and the capture of the wire.

gate = Gate()
gate.admit(target)
async with record(gate, [target]) as capture:
    exchange = await converse(gate, target, question, conversation)
"""

from __future__ import annotations

from .capture import Capture, read_events, record
from .gate import Gate, NotAuthorized
from .icmp import read_icmp
from .knock import Knock, knock
from .sockets import converse

__all__ = ["Capture", "Gate", "Knock", "NotAuthorized", "converse", "knock", "read_events", "read_icmp", "record"]
