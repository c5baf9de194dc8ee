"""Nmap's XML (``-oX``) as values: streamed, bounded, without entities. The format is that of Nmap's nmap.dtd.

A file may come from anybody. What is no whole file of Nmap's is refused with one sentence; what a whole file
leaves untold is told in a note and never guessed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import BinaryIO
from xml.etree.ElementTree import Element, ParseError

from exposure_scan.model import Problem

from . import elements
from .elements import LONGEST, address_of, number, text, time
from .values import (
    MOST_REST,
    TRANSPORTS,
    Damaged,
    NmapHost,
    NmapPort,
    NmapRun,
    Rest,
    Transport,
    joined,
    merged,
    read_ranges,
    strength,
    whole,
)

LIMIT = 256 * 1024 * 1024  # bytes of a file
MOST_HOSTS = 256  # the most addresses of one site
_PIECE = 256 * 1024  # bytes read at once
_LONGEST_ELEMENT = 4 * 1024 * 1024  # bytes without a beginning or an end of an element
_MOST_PORTS = 400_000  # listed in one file
_MOST_RECORDS = 100_000  # of hosts
_MOST_ELEMENTS = 2_000_000  # in one file
_MOST_IN_PART = 20_000  # in one port
_DEEPEST = 32  # elements inside each other; Nmap's own tables stay far below
_MOST_NOTES = 40

_HOST = ("nmaprun", "host")
_PORTS = (*_HOST, "ports")
# expat's errors (expat.h) of a document that ends too early: no element, a token or a character cut off, CDATA.
_ENDS_EARLY = frozenset({3, 5, 6, 20})
# Where `extraports` gives no reason: older versions of Nmap.
_USUAL_REASON: Mapping[tuple[str, str], str] = MappingProxyType(
    {("tcp", "closed"): "reset", ("udp", "closed"): "port-unreach"}
)


def read_nmap(file: BinaryIO, name: str, only: Collection[str] = ()) -> NmapRun:
    """Read a file that Nmap wrote with ``-oX``.

    Args:
        file: it, from its start on; seekable.
        name: what to call it in sentences.
        only: addresses to keep; empty keeps all, and then at most `MOST_HOSTS` may be in it.

    Raises:
        Problem: it is too large, damaged, cut short, or none of Nmap's.
    """
    # Narrow: the defused parser of the standard library's, which fetches nothing and expands nothing.
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import iterparse

    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size > LIMIT:
        raise Problem(
            f"{name} is larger than {LIMIT // 1024 // 1024} MiB; scan one site at a time, and give that file."
        )
    if not size:
        raise Problem(f"{name} is empty; give a file that Nmap wrote with -oX.")
    reading, source = _Reading(name, frozenset(only)), _Source(file)
    try:
        for event, element in iterparse(source, ("start", "end")):
            source.quiet = 0
            reading.take(event, element)
        return reading.run()
    except DefusedXmlException:
        raise Problem(
            f"{name} declares entities, which Nmap never does; it was not read. Give the file as Nmap wrote it."
        ) from None
    except ParseError as error:
        if getattr(error, "code", 0) in _ENDS_EARLY and reading.may_be_nmap:
            raise Problem(
                f"{name}: the file ends in the middle: Nmap was stopped before it was done. Run Nmap again to its end."
            ) from None
        raise Problem(f"{name} is no XML of Nmap ({error}); give a file that Nmap wrote with -oX.") from None
    except Damaged as error:
        raise Problem(f"{name} is damaged: {error}; give the file as Nmap wrote it.") from None
    except (ValueError, LookupError, OverflowError):  # an encoding that nobody knows, a number without end
        raise Problem(f"{name} is no XML of Nmap; give a file that Nmap wrote with -oX.") from None


class _Source:
    """The file in large pieces, and an end to elements that have none.

    expat before 2.6 looks at an unfinished token from its start again with each piece that it is given.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.quiet = 0  # bytes given since an element last began or ended

    def read(self, _size: int = -1, /) -> bytes:
        if self.quiet > _LONGEST_ELEMENT:
            raise ValueError("an element is larger than any of Nmap's")
        data = self._file.read(_PIECE)
        self.quiet += len(data)
        return data


@dataclass
class _Record:
    """One `host` element while it is read."""

    addresses: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    status: str = "unknown"
    reason: str = ""
    at: datetime | None = None
    timed_out: bool = False
    ports: dict[tuple[str, int], NmapPort] = field(default_factory=dict)
    extra: list[tuple[str, int, list[Mapping[str, str]]]] = field(default_factory=list)  # state, count, reasons


class _Reading:
    """The state of one reading; elements are thrown away as soon as they are understood."""

    def __init__(self, name: str, only: frozenset[str]) -> None:
        self._name, self._only = name, only
        self._path: list[Element] = []
        self._tags: tuple[str, ...] = ()
        self._elements = 0
        self._inside_part = 0  # elements begun since one was last thrown away
        self._parts: Mapping[tuple[str, ...], Callable[[Element], None]] = {
            _HOST: self._keep,
            (*_HOST, "status"): self._status,
            (*_HOST, "address"): self._address,
            (*_HOST, "hostnames", "hostname"): self._hostname,
            (*_PORTS, "port"): self._port,
            (*_PORTS, "extraports"): self._extraports,
            ("nmaprun", "scaninfo"): self._scaninfo,
            ("nmaprun", "runstats", "finished"): self._end_of_run,
        }
        self._root: Mapping[str, str] = {}
        self._began = False
        self._services: dict[Transport, tuple[tuple[int, int], ...]] = {}
        self._record = _Record()
        self._hosts: dict[str, list[NmapHost]] = {}
        self._records = 0
        self._ports = 0
        self._finished: Mapping[str, str] | None = None
        self._notes: dict[str, None] = {}

    @property
    def may_be_nmap(self) -> bool:
        """Nothing read so far says that this is another program's file."""
        return not self._began or bool(self._root)

    def take(self, event: str, element: Element) -> None:
        """The next start or end of an element, in the order of the file."""
        if event == "start":
            if not self._path:
                self._begin(element)
            self._path.append(element)
            self._tags = (*self._tags, element.tag)
            self._elements += 1
            self._inside_part += 1
            if len(self._path) > _DEEPEST:
                raise Damaged("its elements are nested deeper than Nmap ever nests them")
            if self._inside_part > _MOST_IN_PART:
                raise Damaged("a port of it has more elements than Nmap ever writes")
            if self._elements > _MOST_ELEMENTS:
                raise Problem(f"{self._name} tells of too much; scan one site at a time, and give that file.")
            if self._tags == _HOST:
                self._record = _Record()
            return
        if (part := self._parts.get(self._tags)) is not None:
            part(element)
        self._path.pop()
        self._tags = self._tags[:-1]
        # What stands inside a port is read with the port; all else is done with.
        if len(self._tags) <= len(_PORTS) or self._tags[: len(_PORTS)] != _PORTS:
            self._inside_part = 0
            element.clear()
            if self._path:
                self._path[-1].remove(element)

    def _begin(self, root: Element) -> None:
        self._began = True
        scanner = text(root, "scanner")
        if root.tag != "nmaprun" or scanner != "nmap":
            what = (
                f"{scanner[:40]!a} wrote it"
                if root.tag == "nmaprun" and scanner
                else f"it begins with {root.tag[:40]!a}"
            )
            raise Problem(f"{self._name} is no XML of Nmap ({what}); give a file that Nmap wrote with -oX.")
        self._root = dict(root.attrib)

    def _scaninfo(self, element: Element) -> None:
        if transport := TRANSPORTS.get(text(element, "protocol")):
            self._services[transport] = read_ranges(element.get("services", ""))

    def _end_of_run(self, element: Element) -> None:
        self._finished = dict(element.attrib)

    def _status(self, element: Element) -> None:
        self._record.status, self._record.reason = text(element, "state"), text(element, "reason")

    def _address(self, element: Element) -> None:
        if text(element, "addrtype") == "mac":
            return
        address = address_of(text(element, "addr"))
        if address is None:
            raise Damaged(f"a host has the address {text(element, 'addr')[:60]!a}")
        self._record.addresses.append(address)

    def _hostname(self, element: Element) -> None:
        if name := text(element, "name"):
            self._record.names.append(name)

    def _extraports(self, element: Element) -> None:
        if len(self._record.extra) + len(element) > MOST_REST:
            raise Damaged("a host has more kinds of counted ports than Nmap knows")
        reasons: list[Mapping[str, str]] = [dict(one.attrib) for one in element if one.tag == "extrareasons"]
        self._record.extra.append((text(element, "state"), number(element, "count"), reasons))

    def _port(self, element: Element) -> None:
        self._ports += 1
        if self._ports > _MOST_PORTS:
            raise Problem(
                f"{self._name} lists more than {_MOST_PORTS:,} ports; scan one site at a time, and give that file."
            )
        found = elements.port(element)
        if found is None:
            self._note("What Nmap found beside TCP and UDP (SCTP, IP protocols, port 0) is left out.")
            return
        key = (found.transport, found.port)
        known = self._record.ports.get(key)
        self._record.ports[key] = found if known is None else min(known, found, key=strength)

    # --- a host as a whole -----------------------------------------------------------------------

    def _keep(self, element: Element) -> None:
        record = self._record
        self._records += 1
        if self._records > _MOST_RECORDS:
            raise Problem(f"{self._name} has more than {_MOST_RECORDS:,} hosts; scan one site at a time.")
        record.at = time(element.get("starttime"))
        record.timed_out = text(element, "timedout") == "true"
        if not record.addresses:
            raise Damaged("a host has no address")
        address = record.addresses[0]
        if self._only and address not in self._only:
            return
        if address not in self._hosts and len(self._hosts) >= MOST_HOSTS:
            raise Problem(
                f"{self._name} tells of more than {MOST_HOSTS} addresses: one site at a time; give --address."
            )
        rest, notes = self._rest(record)
        if record.timed_out:
            notes.append(f"Nmap gave up on {address} (its --host-timeout), and tells nothing of its ports.")
        found = NmapHost(
            address,
            tuple(dict.fromkeys(record.names))[:20],
            record.status,
            record.reason,
            record.at,
            tuple(record.ports.values()),
            tuple(rest),
            tuple(notes),
        )
        self._hosts.setdefault(address, []).append(found)

    def _rest(self, record: _Record) -> tuple[list[Rest], list[str]]:
        """The ports that are only counted, where the file tells which they are."""
        told: list[Rest] = []
        untold: list[tuple[str, int, str]] = []  # state, count, reason or empty
        for state, count, reasons in record.extra:
            for row in reasons or [{}]:
                number = whole(row.get("count", str(count)))
                transport = TRANSPORTS.get(row.get("proto", ""))
                if transport and row.get("ports"):
                    told.append(Rest(transport, read_ranges(row["ports"]), state[:40], row.get("reason", "")[:40]))
                elif not row.get("proto") or transport:
                    untold.append((state[:40], number, row.get("reason", "")[:40]))
        if not untold:
            return told, []
        missing = self._missing(record, told)
        unlisted = sum(last - first + 1 for ranges in missing.values() for first, last in ranges)
        state, _, reason = untold[0]
        if len(untold) == 1 and untold[0][1] == unlisted:
            told += [
                Rest(transport, ranges, state, reason or _USUAL_REASON.get((transport, state), "no-response"))
                for transport, ranges in missing.items()
                if ranges
            ]
            return told, []
        numbers = ", ".join(f"{number} {state}" for state, number, _ in untold)
        note = f"Nmap only counted further ports ({numbers}) and does not tell which; they are not measured."
        return told, [f"{record.addresses[0]}: {note}"]

    def _missing(self, record: _Record, told: Iterable[Rest]) -> dict[Transport, tuple[tuple[int, int], ...]]:
        """The ports that Nmap scanned and that no line of the host tells of."""
        found: dict[Transport, tuple[tuple[int, int], ...]] = {}
        told = tuple(told)
        for transport, ranges in self._services.items():
            known = {number for kind, number in record.ports if kind == transport}
            known.update(number for rest in told if rest.transport == transport for number in rest)
            left = [number for first, last in ranges for number in range(first, last + 1) if number not in known]
            found[transport] = joined(left)
        return found

    # --- the run as a whole ----------------------------------------------------------------------

    def _note(self, sentence: str) -> None:
        self._notes[sentence] = None

    def run(self) -> NmapRun:
        """All of it, once the document has ended."""
        started = time(self._root.get("start"))
        ended = self._finished
        if started is None:
            raise Damaged("it does not tell when Nmap began")
        if ended is None:
            raise Problem(
                f"{self._name}: the file does not tell that Nmap was done: Nmap was stopped before. Run Nmap again."
            )
        if ended.get("exit", "success") != "success":
            said = ended.get("errormsg", "")[:200]
            self._note(
                f"Nmap ended with an error ({said or 'it does not say which'}); what it had found until then is here."
            )
        hosts = {address: merged(records) for address, records in self._hosts.items()}
        notes = (*self._notes, *(note for host in hosts.values() for note in host.notes))
        more = len(notes) - _MOST_NOTES
        return NmapRun(
            self._root.get("version", "")[:40],
            self._root.get("args", "")[: LONGEST * 4],
            started,
            max(started, time(ended.get("time")) or started),
            hosts,
            (*notes[:_MOST_NOTES], *((f"And {more} more of this kind.",) if more > 0 else ())),
        )
