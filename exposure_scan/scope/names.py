"""From an order to targets: consent first, then addresses, then names. The only maker of a Target.

Beside the transport's gate this is the one place that speaks to the network, and it speaks to the
operator's own DNS resolver only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal, TypeAlias

from exposure_scan.model import Address, Authorization, Problem, Target
from exposure_scan.model.text import quoted

from .addresses import MOST, literals, plain, refusal
from .order import Clock, Order, now

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

_Family: TypeAlias = Literal["A", "AAAA"]


async def resolve(
    order: Order,
    *,
    clock: Clock = now,
    nameservers: tuple[tuple[str, int], ...] | None = None,
    seconds: float = 5.0,
) -> tuple[Target, ...]:
    """The addresses that the order leads to, each once, with the names that led there.

    The authorization is checked first, then the addresses that the order spells out, and only then
    are names looked up: A and AAAA of each, as absolute names, all at once, within `seconds`. What
    the resolver says is pinned: nobody asks again. One address that may not be asked refuses the
    whole order. Packets go to the resolver only: the operating system's, or `nameservers` (address
    and port; for tests).

    Raises:
        Problem: no live authorization, an address outside the rules or the fence, a name that leads
            nowhere, or more than 256 addresses; one sentence each. Nothing was sent to any target.
    """
    _check_consent(order.site.name, order.authorization, clock)
    addresses, names, mistakes = literals(order.site.targets, order.fence, internal=order.internal)
    if mistakes:
        raise Problem(*(f"Target {place + 1}: {mistake}." for place, mistake in mistakes))
    led: dict[Address, list[str]] = {address: [] for address in addresses}
    if names:
        for name, found in zip(names, await _look_up(names, order, nameservers, seconds), strict=True):
            for address in found:
                led.setdefault(address, []).append(name)
    if not led:
        raise Problem(f"The site {quoted(order.site.name)} has no target: give an address, a network or a name.")
    if len(led) > MOST:
        raise Problem(
            f"The targets lead to {len(led)} addresses, and a site may have {MOST}; divide them among several sites."
        )
    return tuple(
        Target(
            address=address,
            names=tuple(through),
            authorization=order.authorization,
            packets_per_second=order.packets_per_second,
            burst=order.burst,
        )
        for address, through in led.items()
    )


def _check_consent(site: str, consent: Authorization, clock: Clock) -> None:
    if not consent.by.strip():
        raise Problem(f"No authorization: nobody is named who consented to the scan of {quoted(site)}.")
    if consent.until is not None and clock() > consent.until:
        raise Problem(
            f"The authorization by {quoted(consent.by)} for {quoted(site)} expired at "
            f"{consent.until:%Y-%m-%d %H:%M %Z}; nothing is sent before it is renewed."
        )


# --- the resolver --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why one question brought no addresses; `why` follows the name in a sentence."""

    why: str


async def _look_up(
    names: Sequence[str],
    order: Order,
    nameservers: tuple[tuple[str, int], ...] | None,
    seconds: float,
) -> list[list[Address]]:
    """Every name's addresses, IPv4 first. All names that failed are told at once."""
    resolver = _resolver(nameservers)
    families: tuple[_Family, ...] = ("A", "AAAA")
    asked = [(name, family) for name in names for family in families]
    answers = await asyncio.gather(*(_ask(resolver, name, family, seconds) for name, family in asked))
    mistakes: list[str] = []
    found: list[list[Address]] = []
    for name, four, six in zip(names, answers[::2], answers[1::2], strict=True):
        addresses: dict[Address, None] = {}
        failures: dict[str, list[str]] = {}
        for family, answer in zip(families, (four, six), strict=True):
            if isinstance(answer, _Failure):
                failures.setdefault(answer.why, []).append(family)
            else:
                addresses.update(dict.fromkeys(answer))
        for why, of in failures.items():
            which = "" if len(of) == len(families) else f" (asked for its {of[0]} addresses)"
            mistakes.append(f"{quoted(name)} {why}{which}.")
        if not failures and not addresses:
            mistakes.append(
                f"{quoted(name)} exists in the DNS but has no address, neither A nor AAAA; "
                "correct the name, or give the address."
            )
        for address in addresses:
            refused = refusal(address, order.fence, internal=order.internal)
            if refused is not None:
                mistakes.append(f"{quoted(name)} leads to {address}, which {refused}. Nothing was sent to it.")
                break  # one such address refuses the name; a hundred say no more
        found.append(list(addresses))
    if mistakes:
        raise Problem(*mistakes)
    return found


def _resolver(nameservers: tuple[tuple[str, int], ...] | None) -> Resolver:
    import dns.asyncresolver
    import dns.nameserver
    import dns.resolver

    if nameservers is not None:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [dns.nameserver.Do53Nameserver(address, port) for address, port in nameservers]
        return resolver
    try:
        return dns.asyncresolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        raise Problem(
            "This computer has no DNS resolver configured, so names cannot be looked up; give addresses instead."
        ) from None


async def _ask(resolver: Resolver, name: str, family: _Family, seconds: float) -> list[Address] | _Failure:
    import dns.exception
    import dns.name
    import dns.resolver

    try:
        answer = await resolver.resolve(
            dns.name.from_text(f"{name}."), family, lifetime=seconds, search=False, raise_on_no_answer=False
        )
    except dns.resolver.NXDOMAIN:
        return _Failure("does not exist in the DNS; correct the name, or give the address")
    except dns.resolver.LifetimeTimeout:
        return _Failure(
            f"could not be looked up: the resolver gave no answer within {seconds:g} seconds; "
            "try again, or give the address"
        )
    except dns.resolver.NoNameservers as error:
        return _Failure(
            f"could not be looked up: the resolver failed ({_reason(error)}); try again later, or give the address"
        )
    except dns.exception.DNSException as error:
        return _Failure(f"could not be looked up ({type(error).__name__}); give the address")
    if answer.rrset is None:
        return []
    return [plain(ip_address(record.address)) for record in answer.rrset]


def _reason(error: Exception) -> str:
    """SERVFAIL, REFUSED or what kept the resolver from answering, of the last server that was tried."""
    tried = getattr(error, "kwargs", {}).get("errors") or []
    if not tried:
        return "no server could be asked"
    last = tried[-1][3]
    if isinstance(last, OSError):
        return last.strerror or type(last).__name__
    return type(last).__name__ if isinstance(last, Exception) else str(last)
