"""Mail leaves here: messages are put together (RFC 5322) and handed to one server (RFC 5321), verified by TLS.

A message goes to one recipient at a time, so that each recipient's fate is known.
"""

from __future__ import annotations

from .connection import Delivery, Fate, Outcome, Server, connected
from .message import Attachment, address, compose

__all__ = ["Attachment", "Delivery", "Fate", "Outcome", "Server", "address", "compose", "connected"]
