"""What one end of a TCP stream sends, put in order (RFC 9293, section 3.4)."""

from __future__ import annotations

from .pieces import Pieces

MOST_PIECES = 32_768  # of a stream, that wait for what comes before them
_HALF = 2**31


class Side:
    """What one end of a stream sends. Positions are sequence numbers that do not wrap."""

    __slots__ = ("acknowledged", "base", "begun", "end", "lost", "next", "said", "waiting")

    def __init__(self, base: int, begun: bool) -> None:
        self.base = self.next = self.acknowledged = base  # the first byte; that expected; that the other expects
        self.begun = begun  # `base` is known to be the first byte
        self.end: int | None = None  # where its FIN is
        self.lost = False  # too many pieces waited
        self.said = bytearray()  # from `base` to `next`
        self.waiting: Pieces | None = None  # what came before its turn

    def position(self, sequence: int) -> int:
        """Unwrap a sequence number: the place that is nearest to the expected one."""
        return self.next + (sequence - self.next + _HALF) % 2**32 - _HALF

    @property
    def whole(self) -> bool:
        """Whether no byte is missing from its first to its FIN, or to the last that the other has acknowledged."""
        closed = self.end is None or self.next > self.end
        gap = self.lost or self.waiting is not None or self.acknowledged > self.next
        return self.begun and closed and not gap

    def put(self, start: int, data: bytes) -> tuple[list[bytes], int, bool]:
        """Take a segment.

        Returns:
            What follows the bytes known so far, how many bytes are kept of it, and whether others differ from
            what came before.
        """
        if self.end is not None:
            data = data[: max(0, self.end - start)]
        known, differs = max(0, min(self.next - start, len(data))), False
        if known:
            at = max(0, self.base - start)
            # One byte before the expected one keeps the connection alive; it may be any (RFC 1122, 4.2.3.6).
            if at < known and (len(data) > 1 or start != self.next - 1):
                offset = max(0, start - self.base)
                differs = self.said[offset : offset + known - at] != data[at:known]
            start, data = start + known, data[known:]
        if not data or self.lost:
            return [], 0, differs
        if start == self.next and self.waiting is None:
            pieces, fresh = [data], len(data)
        else:
            waiting = self.waiting = self.waiting or Pieces()
            fresh, conflict = waiting.put(start, data)
            differs = differs or conflict
            pieces = waiting.take(self.next)
            self.lost = len(waiting) > MOST_PIECES
            if self.lost or not waiting:
                self.waiting = None
        for piece in pieces:
            self.said += piece
        self.next += sum(map(len, pieces))
        return pieces, fresh, differs
