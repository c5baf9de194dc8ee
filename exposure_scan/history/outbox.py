"""The outbox: mail that waits in the history, each piece handed over at most once.

A piece is `queued`, then `sending` from just before its last byte is handed over until the server's word is
written down, then `sent` or `refused`. One that a kill left in `sending` may or may not have arrived: it
becomes `unknown`, is said to be so, and is never sent again by itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select, update

from .opening import Database
from .tables import MAIL, SITES

_FIRST_WAIT = timedelta(minutes=1)
_LONGEST_WAIT = timedelta(hours=6)
_MOST_TRIES = 28  # about five days (RFC 5321, section 4.5.4.1)
_SAID = 500


@dataclass(frozen=True, slots=True)
class Piece:
    """One message to one recipient."""

    id: int
    site: str
    scan: str
    recipient: str
    state: str
    tries: int
    next_try: datetime
    queued: datetime
    said: str
    urgent: bool
    message: bytes


class Outbox:
    """The mail of a history."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._in_hand: set[int] = set()  # what this process, and no other, hands over

    def recover(self, now: datetime) -> tuple[Piece, ...]:
        """Mark what was being handed over when the last process ended, and return it: nobody knows if it arrived."""
        with self._database.writing() as db:
            lost = list(db.scalars(select(MAIL.c.id).where(MAIL.c.state == "sending")))
            db.execute(
                update(MAIL)
                .where(MAIL.c.state == "sending")
                .values(state="unknown", changed=now, said="The process ended while the server had the message.")
            )
        return self._read(MAIL.c.id.in_(lost[:500]), order=(MAIL.c.id,), most=500)

    def due(self, now: datetime, *, most: int = 100) -> tuple[Piece, ...]:
        """What may be sent now, the urgent first, then the oldest."""
        return self._read(
            (MAIL.c.state == "queued") & (MAIL.c.next_try <= now),
            order=(MAIL.c.urgent.desc(), MAIL.c.id),
            most=most,
        )

    def pieces(self, *states: str) -> tuple[Piece, ...]:
        """The mail in these states."""
        return self._read(MAIL.c.state.in_(states), order=(MAIL.c.id,), most=10_000)

    def counts(self) -> dict[str, int]:
        """How many pieces are in each state."""
        query = select(MAIL.c.state, func.count()).group_by(MAIL.c.state)
        with self._database.reading() as db:
            return {row[0]: int(row[1]) for row in db.execute(query)}

    def hand_over(self, piece: Piece, now: datetime) -> bool:
        """Write down that the message goes now; False where it is not queued any more."""
        with self._database.writing() as db:
            done = db.execute(
                update(MAIL)
                .where(MAIL.c.id == piece.id, MAIL.c.state == "queued")
                .values(state="sending", tries=MAIL.c.tries + 1, changed=now)
            )
            mine = done.rowcount == 1
        if mine:
            self._in_hand.add(piece.id)
        return mine

    def settle(self, piece: Piece, state: str, said: str, now: datetime) -> None:
        """Write down what became of it: sent, refused or unknown."""
        self._write(piece, state=state, said=said[:_SAID], changed=now)

    def postpone(self, piece: Piece, said: str, now: datetime) -> bool:
        """Try again later, twice as late each time; False where that was the last try, and it counts as refused."""
        tries = piece.tries + 1
        last = tries >= _MOST_TRIES
        wait = min(_FIRST_WAIT * 2 ** min(tries - 1, 12), _LONGEST_WAIT)
        state = "refused" if last else "queued"
        self._write(piece, state=state, next_try=now + wait, said=said[:_SAID], changed=now)
        return not last

    def _write(self, piece: Piece, **values: object) -> None:
        """Write down a try's end, unless another process has the piece or has had it meanwhile."""
        state = "sending" if piece.id in self._in_hand else "queued"
        tries = piece.tries + 1
        read = tries if state == "sending" else piece.tries
        which = (MAIL.c.id == piece.id) & (MAIL.c.state == state) & (MAIL.c.tries == read)
        with self._database.writing() as db:
            db.execute(update(MAIL).where(which).values(tries=tries, **values))
        self._in_hand.discard(piece.id)

    def _read(self, which: object, *, order: Sequence[object], most: int) -> tuple[Piece, ...]:
        query = select(MAIL, SITES.c.name.label("site_name")).join(SITES, MAIL.c.site == SITES.c.id)
        query = query.where(which).order_by(*order).limit(most)  # type: ignore[arg-type]
        with self._database.reading() as db:
            return tuple(
                Piece(
                    id=row.id,
                    site=row.site_name,
                    scan=row.scan,
                    recipient=row.recipient,
                    state=row.state,
                    tries=row.tries,
                    next_try=row.next_try,
                    queued=row.queued,
                    said=row.said or "",
                    urgent=bool(row.urgent),
                    message=zlib.decompress(row.message),
                )
                for row in db.execute(query)
            )
