"""What a wide sweep leaves behind: ports that came to the same, told together, on the wire and offline.

65,535 ports one by one would be a document that nobody reads. A group has one state, one reason, one
speaker and one number of tries; its ports are a text of ranges.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from exposure_scan.conversation import Exchange, Observation
from exposure_scan.model import Evidence, PortState, Purpose, Question, Sweep, Swept
from exposure_scan.model.ranges import LAST_PORT, ranges_text, read_ranges

PROBE = "knock"
WENT_DARK = "went-dark"
MOST_ASKED_ON = 256  # open ports; no host serves that many, so behind them something answers for everybody


@dataclass(frozen=True, slots=True)
class Knocks(Exchange):
    """Knocks that came to the same, as one exchange; `at` is the first one's, `tries` are each port's."""

    ports: tuple[int, ...] = ()  # ascending

    def evidence(
        self,
        id_: str,
        address: str,
        token: str,
        purpose: Purpose = "ask",
        syn_ack: tuple[int, int] | None = None,
    ) -> Evidence:
        """The record in its JSON form."""
        proof = Exchange.evidence(self, id_, address, token, purpose, syn_ack)
        return proof.model_copy(update={"ports": ranges_text(self.ports)})

    def only(self, port: int) -> Exchange:
        """The knock at one of the ports."""
        question = Question("tcp", port, PROBE)
        return Exchange(question, self.state, self.reason, self.by, self.tries, None, Observation(), self.at, ())


def knocks(state: PortState, reason: str, by: str | None, tries: int, at: datetime, ports: Iterable[int]) -> Knocks:
    """A group of ports, in any order."""
    question = Question("tcp", 0, PROBE)
    return Knocks(question, state, reason, by, tries, None, Observation(), at, (), ports=tuple(sorted(ports)))


def repeated(proof: Evidence) -> Knocks:
    """The group that the evidence keeps.

    Raises:
        ValueError: its ports are no ranges, or it shows words where nothing was said.
    """
    if proof.steps or proof.sent or proof.received or proof.port or proof.kind != "tcp" or proof.probe != PROBE:
        raise ValueError(f"evidence {proof.id}: a sweep knocks at TCP ports and says nothing")
    try:
        ports = read_ports(proof.ports)
    except ValueError as error:
        raise ValueError(f"evidence {proof.id}: {error}") from None
    return knocks(PortState(proof.state), proof.reason, proof.by, proof.tries, proof.at, ports)


# --- ranges ---------------------------------------------------------------------------------------


def read_ports(text: str) -> tuple[int, ...]:
    """The ports that `ranges_text` wrote.

    Raises:
        ValueError: the text is none that it writes.
    """
    found = tuple(port for part in read_ranges(text, LAST_PORT) for port in part)
    if not found or ranges_text(found) != text:
        raise ValueError(f"{text[:60]!r} are no ranges of ports as they are written")
    return found


# --- from evidence to the host --------------------------------------------------------------------


def swept_of(rows: Iterable[tuple[Knocks, str]], asked_on: Collection[int], miss: float) -> tuple[Swept, ...]:
    """The groups without the ports that were asked on, each with the id of its evidence.

    Args:
        rows: the groups, in the order of the evidence.
        asked_on: ports that have a conversation of their own.
        miss: how likely one try comes to nothing on this path.

    Raises:
        ValueError: a port stands in two groups.
    """
    found: list[Swept] = []
    seen: set[int] = set()
    for group, evidence in rows:
        if not seen.isdisjoint(group.ports):
            raise ValueError(f"evidence {evidence}: it tells of a port that other evidence of the sweep tells of")
        seen.update(group.ports)
        ports = [port for port in group.ports if port not in asked_on]
        if ports:
            state = PortState(group.state)
            found.append(
                Swept(
                    ports=ranges_text(ports),
                    number=len(ports),
                    state=state,
                    reason=group.reason,
                    confidence=_confidence(state, group, miss),
                    by=group.by,
                    tries=group.tries,
                    evidence=(evidence,),
                )
            )
    return tuple(found)


def _confidence(state: PortState, group: Knocks, miss: float) -> float | None:
    if state is PortState.UNMEASURED:
        return None
    return round(1 - miss**group.tries, 6) if group.by is None else 1.0


def sweep_of(rows: Sequence[Knocks], asked_on: Mapping[int, datetime], looks: Iterable[datetime]) -> Sweep | None:
    """How the sweep went; None where there was none.

    Args:
        rows: its groups.
        asked_on: the ports that it found open and that were then asked, with the time of it.
        looks: when it was looked whether the host was still there.
    """
    if not rows:
        return None
    begun = min(row.at for row in rows)
    ended = min(asked_on.values(), default=None) or max((look for look in looks if look > begun), default=None)
    return Sweep(
        found=tuple(f"tcp/{port}" for port in sorted(asked_on)),
        seconds=None if ended is None else round((ended - begun).total_seconds(), 1),
    )
