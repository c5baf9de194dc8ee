"""The only sockets: the gate, what drives conversations through it, and the capture of the wire.

gate = Gate()
gate.admit(target)
async with record(gate, [target]) as capture:
    exchange = await converse(gate, target, question, conversation)
"""

from __future__ import annotations

from .capture import Capture, record
from .consent import NotAuthorized
from .flows import Flow, read_flows
from .frames import Frames, hosts_of
from .gate import Gate
from .icmp import read_icmp
from .journal import UNHEARD
from .knock import Knock, knock
from .pace import Lateness
from .packets import Packet, read_packets
from .pcap import HEADER
from .raw import Engine, engine
from .sketch import Sketch, sketched_flows
from .sockets import converse
from .transcript import rebuild

__all__ = [
    "HEADER",
    "UNHEARD",
    "Capture",
    "Engine",
    "Flow",
    "Frames",
    "Gate",
    "Knock",
    "Lateness",
    "NotAuthorized",
    "Packet",
    "Sketch",
    "converse",
    "engine",
    "hosts_of",
    "knock",
    "read_flows",
    "read_icmp",
    "read_packets",
    "rebuild",
    "record",
    "sketched_flows",
]
