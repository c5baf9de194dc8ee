"""The customer's copy of a scan: nonces, names of hosts and serials masked, and every judgement as it was.

The masks lie on the evidence alone. Everything else that the copy says is made anew from it, so nothing is
forgotten, and the copy can be verified as any scan can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from exposure_scan import evidence
from exposure_scan.conversation import Exchange, Observation, ReplayError, events_of
from exposure_scan.model import Echo, Evidence, Host, Port, PortState, Problem, Question, Scan
from exposure_scan.transport import HEADER, Frames, hosts_of, rebuild, sketched_flows

from .scanning import Result, frames_text, rederive

_MOST_TRIES = 200  # derivations; then pieces of evidence that still matter stay whole
_Spare: TypeAlias = dict[str, frozenset[bytes] | None]


def redacted(scan: Scan) -> Scan:
    """The scan for the customer's hands, with `redacted` set; what was masked already comes back as it is.

    A text on which a judgement rests (a class, a status, a product that a fingerprint knows) stays, and no
    other text with it. The copy has no capture: packets cannot be masked (but see `customer_copy`).

    Raises:
        Problem: the scan does not follow from its own evidence, so no copy would say the same.
    """
    if scan.redacted:
        return scan
    try:
        masks = evidence.Redaction(scan)
        made = rederive(scan)
    except (ValueError, ReplayError) as error:
        raise Problem(f"No copy can be made of this scan, for its evidence is damaged ({error}).") from None
    if _result(made) != _result(scan):
        raise Problem(
            "No copy can be made of this scan, for today its evidence gives another result than was saved; "
            "run `exposure-scan verify` on it to see the differences, and scan again."
        )
    judged, copy = _judgement(made), _derived(masks.scan())
    if copy is None or _judgement(copy) != judged:
        copy = _derived(masks.scan(_Sparing(scan, masks).spare))
    if copy is None or _judgement(copy) != judged:
        raise Problem("No copy can be made of this scan: what it shows cannot be told without what would be masked.")
    proofs = tuple(proof.model_copy(update={"frames": ""}) for proof in copy.evidence)
    return copy.model_copy(update={"evidence": proofs, "redacted": True, "capture": "none"})


def customer_copy(scan: Scan) -> Result:
    """The scan for the customer's hands with packets of its own, rebuilt from the masked record if it tells of any.

    Raises:
        Problem: see `redacted`.
    """
    copy = redacted(scan)
    try:
        entries = rebuild(map(_exchange, copy.evidence))
        if not entries:  # what Nmap said has no packets
            return Result(copy, None)
        frames = Frames(sketched_flows(entries, hosts_of(copy.evidence)), copy.evidence)
        proofs = tuple(proof.model_copy(update={"frames": frames_text(frames, proof)}) for proof in copy.evidence)
    except ValueError as error:
        raise Problem(f"No copy can be made of this scan, for its evidence is damaged ({error}).") from None
    copy = copy.model_copy(update={"evidence": proofs, "capture": "transcript"})
    return Result(copy, HEADER + b"".join(entries))


def _exchange(proof: Evidence) -> Exchange:
    """The record of a piece of evidence; what follows from it does not matter to its packets."""
    state = Echo(proof.state) if proof.kind == "icmp" else PortState(proof.state)
    question = Question(proof.kind, proof.port, proof.probe)
    events = tuple(events_of(proof)) if proof.steps else ()
    return Exchange(question, state, proof.reason, proof.by, proof.tries, None, Observation(), proof.at, events)


class _Sparing:
    """The texts that must stay, found by leaving out one mask after the other, on each host for itself."""

    def __init__(self, scan: Scan, masks: evidence.Redaction) -> None:
        self._scan, self._masks, self._tries = scan, masks, 0
        self.spare: _Spare = {}
        for host in scan.hosts:
            self.spare |= self._of(host)

    def _of(self, host: Host) -> _Spare:
        """Mask piece by piece; where that changes a judgement, text by text."""
        pieces = [one.id for one in self._scan.evidence if one.address == host.address and self._masks.masks(one.id)]
        spare: _Spare = dict.fromkeys(pieces, None)
        wanted = self._judged(host, spare)
        if self._judged(host, {}) == wanted:
            return {}

        def same(id_: str, stays: Sequence[bytes]) -> bool:
            self._tries += 1
            return self._tries <= _MOST_TRIES and self._judged(host, {**spare, id_: frozenset(stays)}) == wanted

        for id_ in pieces:
            texts = self._masks.texts(id_)
            if same(id_, ()):
                spare[id_] = frozenset()
            elif same(id_, texts):
                spare[id_] = frozenset(_needed(partial(same, id_), (), texts))
        return spare

    def _judged(self, host: Host, spare: _Spare) -> object:
        whole = self._masks.scan(spare)
        proofs = tuple(one for one in whole.evidence if one.address == host.address)
        made = _derived(whole.model_copy(update={"hosts": (host,), "evidence": proofs}))
        return None if made is None else _judgement(made)


def _needed(
    enough: Callable[[Sequence[bytes]], bool], kept: tuple[bytes, ...], texts: tuple[bytes, ...], changed: bool = True
) -> tuple[bytes, ...]:
    """The fewest of `texts` that are enough beside `kept`; all of them are (U. Junker, QuickXplain, AAAI 2004)."""
    if changed and enough(kept):
        return ()
    if len(texts) <= 1:
        return texts
    first, second = texts[: len(texts) // 2], texts[len(texts) // 2 :]
    of_second = _needed(enough, kept + first, second)
    return (*_needed(enough, kept + of_second, first, bool(of_second)), *of_second)


def _derived(scan: Scan) -> Scan | None:
    """The scan out of its evidence; None where a mask has made a record unfit."""
    try:
        return rederive(scan)
    except (ValueError, ReplayError):
        return None


def _result(scan: Scan) -> object:
    """What a scan is for: verdict, classes and statuses."""
    classes = [(host.address, host.device.class_, [one.class_ for one in host.also]) for host in scan.hosts]
    return scan.verdict, classes, [(finding.practice, finding.host, finding.status) for finding in scan.findings]


def _judgement(scan: Scan) -> object:
    """All that a mask may not change: the result, and what the program recognised on the way to it."""
    return _result(scan), [_of_host(host) for host in scan.hosts]


def _of_host(host: Host) -> object:
    devices = [(one.class_, one.declared, one.model, one.version) for one in (host.device, *host.also)]
    return host.alive.proven, host.echo, devices, [_of_port(port) for port in host.ports]


def _of_port(port: Port) -> object:
    device = port.device
    told = device and (
        device.class_,
        device.model,
        device.version,
        {(one.pack, one.fingerprint) for one in (*device.support, *device.against)},
    )
    self_signed = port.tls and port.tls.self_signed
    private = port.said.get("sip.private")
    seen = (port.state, port.reason, port.service, port.product, len(port.notes))
    return port.key, *seen, self_signed, private, told
