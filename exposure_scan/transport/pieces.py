"""Bytes of one sequence that come in pieces, in any order and more than once."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Pieces:
    """What came of a sequence of bytes, where it belongs; what came first stays.

    The work grows with the bytes that come, whatever their order: a piece that others lie within takes
    their place, so that nothing is walked twice.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []  # ascending; no two pieces share a byte
        self._pieces: list[bytes] = []

    def __len__(self) -> int:
        return len(self._starts)

    def put(self, start: int, data: bytes) -> tuple[int, bool]:
        """Add a piece.

        Returns:
            How many bytes of it are new, and whether others differ from what came before.
        """
        differs = False
        low = bisect_right(self._starts, start)
        if low:  # the piece before may reach into this one
            before = self._pieces[low - 1]
            inside = start - self._starts[low - 1]
            if inside < len(before):
                known = before[inside : inside + len(data)]
                differs = known != data[: len(known)]
                start, data = start + len(known), data[len(known) :]
        high = bisect_left(self._starts, start + len(data), low)
        if high > low:  # the last one may reach out of it
            after = self._starts[high - 1]
            reach = after + len(self._pieces[high - 1])
            if reach > start + len(data):
                known = data[after - start :]
                differs = differs or not self._pieces[high - 1].startswith(known)
                high, data = high - 1, data[: after - start]
        fresh = len(data)
        if high > low:
            mixed = bytearray(data)
            for position, piece in zip(self._starts[low:high], self._pieces[low:high], strict=True):
                at = position - start
                differs = differs or data[at : at + len(piece)] != piece
                mixed[at : at + len(piece)] = piece
                fresh -= len(piece)
            data = bytes(mixed)
        if data:
            self._starts[low:high] = [start]
            self._pieces[low:high] = [data]
        return fresh, differs

    def take(self, start: int) -> list[bytes]:
        """Remove and return the pieces that follow one another from `start` on."""
        count = 0
        while count < len(self._starts) and self._starts[count] == start:
            start += len(self._pieces[count])
            count += 1
        taken = self._pieces[:count]
        del self._starts[:count], self._pieces[:count]
        return taken
