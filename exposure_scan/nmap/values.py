"""What a file of Nmap's tells, as values, and what several records of one address tell together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Literal, TypeAlias

LAST_PORT = 65535
MOST_REST = 64  # groups of ports that a host only counts
_MOST_RANGES = 20_000  # in one list of ports

Transport: TypeAlias = Literal["tcp", "udp"]
TRANSPORTS: Mapping[str, Transport] = MappingProxyType({"tcp": "tcp", "udp": "udp"})

# The strongest word of Nmap's first: what several records say of one port.
_STATES = ("open", "closed", "unfiltered", "filtered", "closed|filtered", "open|filtered")


class Damaged(ValueError):  # noqa: N818 - it is the file's
    """What Nmap never writes, as words that follow "the file is damaged"."""


@dataclass(frozen=True, slots=True)
class NmapService:
    """What Nmap thinks of a service; by `method` "table" it only looked its number up."""

    name: str
    method: str  # table or probed
    conf: int  # 0 to 10
    product: str = ""
    version: str = ""
    extrainfo: str = ""
    tunnel: str = ""  # ssl, or empty
    servicefp: str = ""  # raw replies, in Nmap's own dress


@dataclass(frozen=True, slots=True)
class NmapPort:
    """One port in Nmap's words. `by` is its reason_ip: who said so, where it was not the host itself."""

    transport: Transport
    port: int
    state: str
    reason: str
    by: str = ""
    ttl: int = 0  # of the answer; 0 where it is not told
    service: NmapService | None = None
    scripts: tuple[tuple[str, str], ...] = ()  # id and output
    title: str = ""  # of the page, whole, from the script http-title
    certificate: str = ""  # PEM, from the script ssl-cert


@dataclass(frozen=True, slots=True)
class Rest:
    """Ports that Nmap does not list one by one (`extraports`), as ranges in ascending order."""

    transport: Transport
    ranges: tuple[tuple[int, int], ...]
    state: str
    reason: str

    def __iter__(self) -> Iterator[int]:
        return (port for first, last in self.ranges for port in range(first, last + 1))


@dataclass(frozen=True, slots=True)
class NmapHost:
    """One address, as all records of it together tell."""

    address: str
    names: tuple[str, ...] = ()
    status: str = "unknown"  # up, down, ...
    reason: str = ""  # echo-reply, user-set (-Pn), ...
    at: datetime | None = None  # when Nmap began with it
    ports: tuple[NmapPort, ...] = ()
    rest: tuple[Rest, ...] = ()
    notes: tuple[str, ...] = ()

    def port(self, transport: str, number: int) -> NmapPort | None:
        """What it says of a port, whether that is listed or among the rest; None where it says nothing."""
        found = [port for port in self.ports if (port.transport, port.port) == (transport, number)]
        found += [
            NmapPort(rest.transport, number, rest.state, rest.reason)
            for rest in self.rest
            if rest.transport == transport and any(first <= number <= last for first, last in rest.ranges)
        ]
        return min(found, key=strength, default=None)

    def every_port(self) -> Iterator[NmapPort]:
        """All that it says of ports, each once, listed ones first."""
        found = {(port.transport, port.port): port for port in self.ports}
        for rest in self.rest:
            for number in rest:
                one = NmapPort(rest.transport, number, rest.state, rest.reason)
                key = (rest.transport, number)
                if key not in found or strength(one) < strength(found[key]):
                    found[key] = one
        yield from found.values()


@dataclass(frozen=True, slots=True)
class NmapRun:
    """One file: the run and its hosts, by address in the file's order."""

    version: str
    args: str
    started: datetime
    finished: datetime
    hosts: Mapping[str, NmapHost]
    notes: tuple[str, ...] = ()


def merged(records: Sequence[NmapHost]) -> NmapHost:
    """The records of one address, at least one, as one: the strongest state of each port wins."""
    if len(records) == 1:
        return records[0]
    ports: dict[tuple[str, int], NmapPort] = {}
    for port in (port for record in records for port in record.ports):
        key = (port.transport, port.port)
        ports[key] = min(ports.get(key, port), port, key=strength)
    rest = tuple(dict.fromkeys(rest for record in records for rest in record.rest))
    if len(rest) > MOST_REST:
        raise Damaged(f"too many records of {records[0].address} only count their ports")
    told = next((record for record in records if record.reason == "echo-reply"), None)
    told = told or next((record for record in records if record.status == "up"), records[0])
    return NmapHost(
        told.address,
        tuple(dict.fromkeys(name for record in records for name in record.names))[:20],
        told.status,
        told.reason,
        min((record.at for record in records if record.at), default=None),
        tuple(ports.values()),
        rest,
        tuple(dict.fromkeys(note for record in records for note in record.notes)),
    )


def strength(port: NmapPort) -> tuple[int, bool]:
    """The smaller, the stronger: what is open beats what is closed, a recognised service one that is not."""
    place = _STATES.index(port.state) if port.state in _STATES else len(_STATES)
    return place, port.service is None or port.service.method != "probed"


def whole(text: str) -> int:
    """A number of at most ten digits; -1 where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else -1


def joined(ports: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Ascending ports as ranges."""
    runs: list[tuple[int, int]] = []
    for port in ports:
        if runs and runs[-1][1] == port - 1:
            runs[-1] = (runs[-1][0], port)
        else:
            runs.append((port, port))
    return tuple(runs)


def read_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """``1,3-4`` as pairs, ascending, none twice, without port 0.

    Raises:
        Damaged: it is no such text.
    """
    parts = text.split(",", _MOST_RANGES + 1)
    if len(parts) > _MOST_RANGES:
        raise Damaged("a list of ports in it has no end")
    found: list[tuple[int, int]] = []
    for part in filter(None, parts):
        first, _, last = part.partition("-")
        pair = (whole(first), whole(last or first))
        if not (found[-1][1] if found else -1) < pair[0] <= pair[1] <= LAST_PORT:
            raise Damaged(f"{part[:20]!a} is no range of ports in ascending order")
        found.append(pair)
    return tuple((max(first, 1), last) for first, last in found if last)  # port 0 is nobody's
