"""How much the fingerprints that matched say together, for a port and for a host.

Each match is evidence for a class. What the same port says for something else takes away from it, so a
claim stands only where what supports it outweighs what contradicts it; both are kept side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

from exposure_scan.model import Device, DeviceClass, Port, Problem, Site, Support

from .fingerprints import (
    CLAIM,
    FAMILY,
    HEURISTIC_CEILING,
    MEMBERS,
    PRODUCTS,
    TEXT_LIMIT,
    Known,
    built_in,
    contradict,
    vocabulary,
)

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Details:
    """What a match names beyond the class."""

    product: str | None = None
    model: str | None = None
    version: str | None = None


class UnknownFieldError(Problem, ValueError):
    """A field that no fingerprint can be about; the sentence lists those that can."""


# --- one text ------------------------------------------------------------------------------------


def match(
    field: str, value: str, said: Mapping[str, str] = _NOTHING, port: str | None = None, known: Known | None = None
) -> list[Support]:
    """The fingerprints that `value` matches, the surest first; never raises, whatever the text.

    Args:
        field: where the text comes from: ``smtp.greeting``, ``http.server``, ...
        value: the text as received; its first 1,000 characters count.
        said: the same port's other texts, for rows that ask for company.
        port: ``tcp/8080``, for rows that hold on one port only; None leaves those out.
        known: the fingerprints; by default those that came with the scanner.
    """
    rows = (known or built_in()).by_field.get(field, ())
    found = [(confidence, row) for row in rows if (confidence := row.confidence_in(value, said, port))]
    return [
        Support(
            fingerprint=row.id,
            says=row.says,
            confidence=confidence,
            field=field,
            value=value[:TEXT_LIMIT],
            heuristic=row.heuristic,
            source=row.source,
            pack=row.pack,
            port=port,
        )
        for confidence, row in sorted(found, key=lambda pair: -pair[0])
    ]


def details(support: Support, known: Known | None = None) -> Details:
    """Product, model and version that a match names; all None where its fingerprint is not known."""
    row = (known or built_in()).by_id.get((support.pack, support.fingerprint))
    groups = row.pattern.find(support.value) if row else None
    if row is None or groups is None:
        return Details()
    return Details(row.product, groups.get("model"), groups.get("version"))


def match_line(field: str, value: str, known: Known | None = None) -> dict[str, str | float | None]:
    """One answer of ``exposure-scan fingerprint test``: the best match, class None where none does.

    Raises:
        UnknownFieldError: (a Problem and a ValueError) no fingerprint can be about this field.
    """
    if field not in vocabulary().fields:
        fields = ", ".join(vocabulary().fields)
        raise UnknownFieldError(f"There is no field {field[:60]!r}. The known fields are: {fields}.")
    best = next(iter(match(field, value, known=known)), None)
    return {
        "field": field,
        "value": value,
        "class": best.says.value if best else None,
        "confidence": best.confidence if best else 0.0,
        "fingerprint": None if best is None else f"{best.pack}/{best.fingerprint}" if best.pack else best.fingerprint,
    }


# --- one class -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Case:
    """What speaks for one claim and what against it, over some ports."""

    confidence: float
    support: tuple[Support, ...]
    against: tuple[Support, ...]


def _case(claim: frozenset[DeviceClass], ports: Iterable[Sequence[Support]]) -> _Case:
    """How surely the claim that one of these classes is there holds.

    On each port, what speaks for it counts less by what speaks firmly against it there: by what could be
    claimed alone and is no guess. Ports do not weaken each other: behind one address may stand several devices.
    """
    weighed: list[tuple[Support, float]] = []
    against: list[Support] = []
    for said in filter(None, ports):
        speaking = [support for support in said if support.says in claim]
        if not speaking:
            continue
        opposed = [one for one in said if one.says not in claim and all(contradict(one.says, own) for own in claim)]
        firm = [(one, one.confidence) for one in opposed if one.confidence >= CLAIM and not one.heuristic]
        left = 1 - _together(firm)
        weighed += [(support, support.confidence * left) for support in speaking]
        against += opposed
    weighed.sort(key=lambda pair: -pair[0].confidence)
    against.sort(key=lambda support: -support.confidence)
    return _Case(_together(weighed), tuple(support for support, _ in weighed), tuple(against))


def _together(weighed: Iterable[tuple[Support, float]]) -> float:
    """How surely the supports together say the same: 1 - (1 - c1)(1 - c2)...

    One field is one witness, however many rows it matches and however many ports repeat it, in the same
    words or in others. What rests on heuristics fills up to their ceiling and no further.
    """
    surest: dict[bool, dict[str, float]] = {False: {}, True: {}}
    for support, weight in weighed:
        witnesses = surest[support.heuristic]
        witnesses[support.field] = max(witnesses.get(support.field, 0.0), weight)
    firm = 1 - prod(1 - weight for weight in surest[False].values())
    hints = [weight for name, weight in surest[True].items() if name not in surest[False]]
    together = 1 - (1 - firm) * prod(1 - weight for weight in hints)
    return round(max(firm, min(together, HEURISTIC_CEILING)), 4)


def _device(class_: DeviceClass, case: _Case, known: Known) -> Device:
    """A device by what speaks for it. Of other products only the port has a version; here they are several."""
    named = [details(support, known) for support in case.support if support.says in FAMILY]
    evidence = dict.fromkeys(id_ for support in case.support for id_ in support.evidence)
    return Device(
        class_=class_,
        confidence=case.confidence,
        model=next((found.model for found in named if found.model), None),
        version=next((found.version for found in named if found.version), None),
        evidence=tuple(evidence),
        support=case.support,
        against=case.against,
    )


# --- one port ------------------------------------------------------------------------------------


def classify_port(port: Port, known: Known | None = None) -> Port:
    """The port with `device` and `product` filled in from what it said.

    `device` is None where nothing known was said, and of class unknown (confidence 0) where what was said
    is too weak, or contradicts itself too much, to claim anything; it stands in its `support` all the same.
    """
    known = known or built_in()
    supports = _supports(port, known)
    if not supports and port.device is None and port.product is None:
        return port
    if not supports:
        return port.model_copy(update={"device": None, "product": None})
    device = _observed([supports], known)[0]
    decided = [details(support, known) for support in device.support if device.class_ is not DeviceClass.UNKNOWN]
    if device.class_ is DeviceClass.OTHER:
        device = device.model_copy(update={"version": next((one.version for one in decided if one.version), None)})
    # A page and the server that serves it may both have a name.
    product = PRODUCTS.get(device.class_) or ", ".join(dict.fromkeys(one.product for one in decided if one.product))
    beside = tuple(support for support in supports if support not in device.against)  # the family beside its member
    device = device.model_copy(update={"support": beside})
    return port.model_copy(update={"device": device, "product": product or None})


def _supports(port: Port, known: Known) -> list[Support]:
    """All that the port's texts match, with the port's evidence, the surest first."""
    found = [
        support.model_copy(update={"evidence": port.evidence})
        for field, value in port.said.items()
        for support in match(field, value, port.said, port.key, known)
    ]
    return sorted(found, key=lambda support: -support.confidence)


# --- one host ------------------------------------------------------------------------------------


def classify_host(ports: Sequence[Port], site: Site, known: Known | None = None) -> tuple[Device, tuple[Device, ...]]:
    """The host's main device and the further ones behind the same address.

    A server and a handset behind one address are two devices; the main one is the surer, on a tie the
    server. Of products that are not Allworx, one device stands for all, and only their ports name
    them. What the operator declared is never mixed with what was seen: a declared device has
    `declared` set and confidence 0, and becomes the main one only where no Allworx class was seen.
    """
    known = known or built_in()
    in_order = sorted(ports, key=lambda port: (port.transport, port.port))
    observed = _observed([_supports(port, known) for port in in_order if port.said], known)
    declared = site.device
    if declared is None or declared not in MEMBERS:
        return observed[0], observed[1:]
    if any(device.class_ is declared for device in observed):
        observed = tuple(
            device.model_copy(update={"model": device.model or site.model}) if device.class_ is declared else device
            for device in observed
        )
        return observed[0], observed[1:]
    word = Device(class_=declared, confidence=0.0, declared=True, model=site.model)
    if observed[0].class_ in MEMBERS:
        return observed[0], (*observed[1:], word)
    return word, tuple(device for device in observed if device.class_ is not DeviceClass.UNKNOWN)


def _observed(ports: Sequence[Sequence[Support]], known: Known) -> tuple[Device, ...]:
    """Every device that these ports' words show, the main one first; at least one, of class unknown."""
    cases = [(class_, _case(frozenset({class_}), ports)) for class_ in MEMBERS]
    sure = sorted((pair for pair in cases if pair[1].confidence >= CLAIM), key=lambda pair: -pair[1].confidence)
    found = [_device(class_, case, known) for class_, case in sure]
    family = _case(FAMILY, ports)
    if not found and family.confidence >= CLAIM:
        found.append(_device(DeviceClass.ALLWORX, family, known))
    # An `other` is a port's product, so its certainty is that of the surest single port.
    others = [_case(frozenset({DeviceClass.OTHER}), [said]) for said in ports]
    surest = max((case.confidence for case in others), default=0.0)
    if surest >= CLAIM:
        everywhere = _case(frozenset({DeviceClass.OTHER}), ports)
        found.append(_device(DeviceClass.OTHER, _Case(surest, everywhere.support, everywhere.against), known))
    if found:
        return tuple(found)
    every = sorted((support for said in ports for support in said), key=lambda support: -support.confidence)
    return (_device(DeviceClass.UNKNOWN, _Case(0.0, tuple(every), ()), known),)
