"""Which frames of a capture belong to which piece of evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Generic, TypeVar

from exposure_scan.conversation import endpoint_text, events_of
from exposure_scan.model import Address, Evidence

from .flows import Flow
from .sketch import Sketch

Kind = TypeVar("Kind", bound=Sketch)

_NEAR = 2.0  # seconds that a flow may begin before or after its attempt was written down, where ends were used twice


class Frames(Generic[Kind]):
    """A capture's flows, to be asked for those of a piece of evidence.

    Args:
        flows: of the capture, with the hosts of the scan.
        evidence: all of the scan's.
    """

    def __init__(self, flows: Sequence[Kind], evidence: Sequence[Evidence]) -> None:
        self._all = flows
        self._streams: dict[tuple[str, str, str], list[Kind]] = {}  # transport and both ends
        self._echoes: dict[bytes, list[Kind]] = {}  # by what the request carries
        self._knocks: dict[tuple[str, int], list[Kind]] = {}  # by host and port
        self._claimed: set[int] = set()
        for flow in self._all:
            if isinstance(flow, Flow) and flow.transport == "icmp":
                for message in {event.data[8:] for event in flow.events if event.what == "sent"}:
                    self._echoes.setdefault(message, []).append(flow)
            self._streams.setdefault((flow.transport, *_text(flow)), []).append(flow)
            if flow.transport != "icmp":
                self._knocks.setdefault(flow.peer, []).append(flow)
        self._of: dict[str, list[Kind]] = {}
        for proof in evidence:
            if proof.purpose != "sweep":
                self._of[proof.id] = self._find(proof)
        self._claimed = {id(flow) for flows in self._of.values() for flow in flows}

    def flows(self, proof: Evidence, ports: Iterable[int] = ()) -> list[Kind]:
        """The flows of a piece of evidence, in the order of beginning.

        Args:
            proof: one of those that were given.
            ports: those of a wide sweep's group.
        """
        if proof.purpose != "sweep":
            return self._of[proof.id]
        found = (flow for port in ports for flow in self._knocks.get((proof.address, port), ()))
        return [flow for flow in found if flow.transport == "tcp" and id(flow) not in self._claimed]

    def unclaimed(self) -> list[Kind]:
        """Flows of no conversation: knocks, and what nobody wrote down."""
        return [flow for flow in self._all if id(flow) not in self._claimed]

    def _find(self, proof: Evidence) -> list[Kind]:
        if proof.kind == "icmp" and proof.probe != "overheard":  # others' pings all carry the same
            carried = dict.fromkeys(event.data[8:] for event in events_of(proof) if event.what == "sent")
            return list({id(flow): flow for data in carried for flow in self._echoes.get(data, ())}.values())
        found: dict[int, Kind] = {}
        for key, ms in _ends(proof).items():
            flows = self._streams.get(key, ())
            if len(flows) == 1:
                found[id(flows[0])] = flows[0]
            elif flows:
                at = proof.at.timestamp() + ms / 1000
                best = min(flows, key=lambda flow: abs(flow.at - at))
                if abs(best.at - at) < _NEAR:
                    found[id(best)] = best
        return sorted(found.values(), key=lambda flow: flow.at)


def hosts_of(evidence: Iterable[Evidence]) -> set[Address]:
    """The addresses that pieces of evidence are of."""
    return {ip_address(text) for text in {proof.address for proof in evidence}}


def _ends(proof: Evidence) -> Mapping[tuple[str, str, str], float]:
    """Both ends of each attempt and connection, with the time that tells it first."""
    found: dict[tuple[str, str, str], float] = {}
    for step in proof.steps:
        if step.what in ("asking", "connected"):
            near, far = step.detail.split(" ")
            found.setdefault((proof.kind, near, far), step.ms)
    return found


def _text(flow: Sketch) -> tuple[str, str]:
    return endpoint_text(flow.local), endpoint_text(flow.peer)
