"""The view of a device: what it is, how surely, and what speaks for it and against it.

Text that came from outside is carried as it is: whoever shows it makes it safe (`text`).
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from exposure_scan.model import Device, DeviceClass, Port, Support
from exposure_scan.model.text import within

from . import words

MOST_SUPPORTS = 8  # on each side
_MOST_REFS = 12
_MOST_PACKS = 3


@dataclass(frozen=True, slots=True)
class Ref:
    """A piece of evidence; `shown` says that the page holds it, so that it can be linked."""

    id: str
    shown: bool


@dataclass(frozen=True, slots=True)
class Refs:
    """The evidence of a claim, and how many pieces were left out."""

    refs: tuple[Ref, ...]
    more: int


@dataclass(frozen=True, slots=True)
class SupportView:
    """A fingerprint that speaks for a device, or against it."""

    fingerprint: str
    says: str
    confidence: str
    field: str
    value: str
    port: str
    heuristic: bool
    source: str
    pack: str
    evidence: Refs


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device in words."""

    name: str
    how: str
    declared: bool
    detail: str
    support: tuple[SupportView, ...]
    more_support: int
    against: tuple[SupportView, ...]
    more_against: int
    heuristic: bool  # whether one of those shown is a heuristic, which has to be explained


def refs(ids: tuple[str, ...], shown: Container[str] = ()) -> Refs:
    """The evidence of a claim; `shown` are the ids that the page holds."""
    return Refs(tuple(Ref(id_, id_ in shown) for id_ in ids[:_MOST_REFS]), max(len(ids) - _MOST_REFS, 0))


def device_view(device: Device, shown: Container[str] = ()) -> DeviceView:
    """A device in words; `shown` are the ids of the evidence that the page holds."""
    how = words.confidence(device.confidence)
    if device.declared:
        how = "declared by the operator; the scan did not show it"
    elif device.class_ is DeviceClass.UNKNOWN:
        how = "nothing that answered tells what it is"
        if device.support:
            how = "what answered is too weak a hint, or contradicts itself"
    elif packs := _packs(device):
        how += f", by {words.packs(packs[:_MOST_PACKS], len(packs) - _MOST_PACKS)} alone"
    detail = ", ".join(
        text
        for text in (
            f"model {device.model}" if device.model else "",
            f"software {device.version}" if device.version else "",
        )
        if text
    )
    support, against = device.support[:MOST_SUPPORTS], device.against[:MOST_SUPPORTS]
    return DeviceView(
        name=words.DEVICES[device.class_],
        how=how,
        declared=device.declared,
        detail=detail,
        support=tuple(_support(one, shown) for one in support),
        more_support=len(device.support) - len(support),
        against=tuple(_support(one, shown) for one in against),
        more_against=len(device.against) - len(against),
        heuristic=any(one.heuristic for one in (*support, *against)),
    )


def foreign(port: Port, instead_of: str) -> str:
    """``Postfix, not Allworx``, where a port is known to be another product; else empty."""
    if port.device is None or port.device.class_ is not DeviceClass.OTHER:
        return ""
    return f"{port.product or 'Another product'}, not {instead_of}"


def _packs(device: Device) -> tuple[str, ...]:
    """The packs that a class rests on, where no fingerprint of the scanner's own speaks for it."""
    speaking = [one.pack for one in device.support]
    return tuple(dict.fromkeys(within(pack, 60) for pack in speaking if pack)) if all(speaking) else ()


def _support(one: Support, shown: Container[str]) -> SupportView:
    return SupportView(
        fingerprint=one.fingerprint,
        says=words.DEVICES[one.says],
        confidence=words.confidence(one.confidence),
        field=one.field,
        value=one.value,
        port=one.port or "",
        heuristic=one.heuristic,
        source=one.source,
        pack=one.pack or "",
        evidence=refs(one.evidence, shown),
    )
