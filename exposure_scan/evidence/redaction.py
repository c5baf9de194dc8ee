"""The customer's copy of the evidence: what the network said, without nonces, serials and names of hosts.

Masked is what others said: in answers, and in their certificates. Our own words, the operator's, and the
addresses stay. What a scan says beside its evidence follows from the evidence (`sweep.redacted`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from exposure_scan.conversation import escape, events_of, unescape
from exposure_scan.model import Evidence, Scan, Step

from .certificate import certificate_texts, mask_certificate
from .masks import X, all_spans, finder, mask, own_words, spans, words_of
from .records import PROBE, mask_record, record_certificates, record_texts

Spare: TypeAlias = Mapping[str, frozenset[bytes] | None]
"""By the evidence's id: texts that stay as they are; None for a piece that stays whole."""

_Binary: TypeAlias = Callable[[bytes, Collection[bytes]], bytes]

_NO_TEXT = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_ECHOES = frozenset({"echo", "echo6"})  # what comes back is our own
_NOTHING: Spare = MappingProxyType({})


def redact(scan: Scan) -> Scan:
    """The scan with the masks on its evidence, and on names that a file told; the same again changes nothing.

    Raises:
        ValueError: the evidence is damaged.
    """
    return Redaction(scan).scan()


@dataclass(frozen=True, slots=True)
class _Piece:
    """One piece of evidence, read: what was received, and the words of ours that may be in it."""

    evidence: Evidence
    received: bytes
    own: frozenset[bytes]

    @property
    def record(self) -> str | None:
        """What Nmap said, where it is that."""
        return self.received.decode("utf-8", "replace") if self.evidence.probe == PROBE else None

    @property
    def certificates(self) -> list[bytes]:
        if self.record is not None:
            return list(record_certificates(self.record))
        return [der for step in self.evidence.steps if (der := _certificate(step)) is not None]

    @property
    def texts(self) -> list[bytes]:
        """What may be masked in parts: the answers, and each name of a certificate."""
        said = [self.received] if self.record is None else record_texts(self.record)
        return [*said, *(name for der in self.certificates for name in certificate_texts(der))]


class Redaction:
    """The masks of one scan. A mask can be left out where a judgement rests on the text."""

    def __init__(self, scan: Scan) -> None:
        """Read the scan.

        Raises:
            ValueError: the evidence is damaged.
        """
        self._scan = scan
        self._pieces: dict[str, _Piece] = {}
        for proof in scan.evidence:
            if proof.id in self._pieces:
                raise ValueError(f"two pieces of evidence are called {proof.id}")
            self._pieces[proof.id] = _read(proof)
        self._words = finder(word for piece in self._pieces.values() for word in _telling(piece))
        self._masked = {id_: self._mask(piece, frozenset()) for id_, piece in self._pieces.items()}

    def texts(self, id_: str) -> tuple[bytes, ...]:
        """The texts that are masked in a piece of evidence, each once; empty where nothing is."""
        piece = self._pieces[id_]
        if self._masked[id_] == piece.evidence:
            return ()
        names = [name for der in piece.certificates for name in certificate_texts(der)]
        inside = [
            text[span.start : span.end] for text in piece.texts for span in all_spans(text, piece.own, self._words)
        ]
        return tuple(dict.fromkeys((*names, *inside)))

    def masks(self, id_: str) -> bool:
        """Whether anything is masked in a piece of evidence."""
        return self._masked[id_] != self._pieces[id_].evidence

    def scan(self, spare: Spare = _NOTHING) -> Scan:
        """The scan with its evidence masked, but for what is in `spare`."""
        made = {"evidence": tuple(self._made(id_, spare) for id_ in self._pieces), "hosts": self._scan.hosts}
        if self._scan.origin is not None:  # names out of a file, not the operator's
            made["hosts"] = tuple(
                host.model_copy(update={"names": tuple("x" * len(name) for name in host.names)})
                for host in self._scan.hosts
            )
        return self._scan.model_copy(update=made)

    def _made(self, id_: str, spare: Spare) -> Evidence:
        texts = spare.get(id_, frozenset())
        if texts is None:
            return self._pieces[id_].evidence
        return self._mask(self._pieces[id_], texts) if texts else self._masked[id_]

    def _mask(self, piece: _Piece, spare: Collection[bytes]) -> Evidence:
        proof = piece.evidence
        if piece.record is not None:
            record = mask_record(
                piece.record,
                lambda text: mask(text, piece.own, self._words, spare),
                lambda der: mask_certificate(der, piece.own, self._words, spare),
            )
            return proof.model_copy(update={"received": escape(record.encode())})
        if proof.probe in _ECHOES or not proof.steps:
            return proof
        if (binary := _BINARY.get(proof.probe)) is None:
            received = mask(piece.received, piece.own, self._words, spare)
        else:
            received = b"".join(self._datagram(binary, data, piece, spare) for data in _received(proof))
        steps = tuple(
            step if der is None else _with_certificate(step, mask_certificate(der, piece.own, self._words, spare))
            for step, der in ((step, _certificate(step)) for step in proof.steps)
        )
        if received == piece.received and steps == proof.steps:
            return proof
        return proof.model_copy(update={"received": escape(received), "steps": steps})

    def _datagram(self, binary: _Binary, data: bytes, piece: _Piece, spare: Collection[bytes]) -> bytes:
        if _NO_TEXT.search(data):
            return binary(data, spare)
        return mask(data, piece.own, self._words, spare)


def _read(proof: Evidence) -> _Piece:
    if proof.probe != PROBE:
        events_of(proof)  # its texts and its steps fit
    return _Piece(proof, unescape(proof.received), own_words(unescape(proof.sent)))


def _received(proof: Evidence) -> Iterable[bytes]:
    return (event.data for event in events_of(proof) if event.what != "sent")


def _telling(piece: _Piece) -> Iterable[bytes]:
    """The words that give a host's name away wherever they stand."""
    if piece.evidence.probe in _ECHOES or piece.evidence.probe in _BINARY:
        return
    for text in piece.texts:
        for span in spans(text, piece.own):
            if span.kind == "place":
                yield from words_of(text[span.start : span.end])


# --- certificates in steps -----------------------------------------------------------------------


def _certificate(step: Step) -> bytes | None:
    """The certificate that a step keeps; None where it keeps none that can be read."""
    if step.what != "secured":
        return None
    *_, last = step.detail.split(" ")
    try:
        return bytes.fromhex(last) or None
    except ValueError:
        return None


def _with_certificate(step: Step, der: bytes) -> Step:
    head, _, _ = step.detail.rpartition(" ")
    return step.model_copy(update={"detail": f"{head} {der.hex()}" if head else der.hex()})


# --- datagrams that are no text ------------------------------------------------------------------

_ENTERPRISE = 5  # bytes of an engine id: whose form it has, and which (RFC 3411, section 5)
_LONGEST_ENGINE = 32
_HOST_NAME, _CHALLENGE = 7, 11  # attributes of L2TP (RFC 2661, section 4.4)


def _snmp(data: bytes, spare: Collection[bytes]) -> bytes:
    """The engine id, but for its maker's number: an octet string of 6 to 32 bytes that begins as one does."""
    made = bytearray(data)
    for at in range(len(data) - 2):
        size, start = data[at + 1], at + 2
        if data[at] == 0x04 and _ENTERPRISE < size <= _LONGEST_ENGINE and data[start : start + 1] == b"\x80":
            end = start + size
            if end <= len(data) and data[start:end] not in spare:
                made[start + _ENTERPRISE : end] = X * (size - _ENTERPRISE)
    return bytes(made)


def _dns(data: bytes, spare: Collection[bytes]) -> bytes:
    """The labels of names behind the question, which is ours (RFC 1035, section 4.1.4)."""
    made, at = bytearray(data), 12
    while at < len(data) and 0 < data[at] < 64:  # our question
        at += data[at] + 1
    at += 5
    while at < len(data):
        size = data[at]
        label = data[at + 1 : at + 1 + size]
        if 0 < size < 64 and re.fullmatch(rb"[\w-]+", label) and len(label) == size and label not in spare:
            made[at + 1 : at + 1 + size] = X * size
            at += size
        at += 1
    return bytes(made)


def _l2tp(data: bytes, spare: Collection[bytes]) -> bytes:
    """The host's name and its challenge, in the pairs of attribute and value behind the header."""
    made, at = bytearray(data), 12
    while at + 6 <= len(data):
        size = int.from_bytes(data[at : at + 2]) & 0x3FF
        vendor, kind = int.from_bytes(data[at + 2 : at + 4]), int.from_bytes(data[at + 4 : at + 6])
        if not 6 <= size <= len(data) - at:
            break
        if vendor == 0 and kind in (_HOST_NAME, _CHALLENGE) and data[at + 6 : at + size] not in spare:
            made[at + 6 : at + size] = X * (size - 6)
        at += size
    return bytes(made)


def _nothing(data: bytes, _: Collection[bytes]) -> bytes:
    return data


_BINARY: Mapping[str, _Binary] = MappingProxyType(
    {"snmp": _snmp, "dns": _dns, "l2tp": _l2tp, "ntp": _nothing, "ike": _nothing, "ike-nat-t": _nothing}
)
