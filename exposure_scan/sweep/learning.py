"""Learning a unit of one's own: three scans of one address, and what its words teach."""

from __future__ import annotations

from dataclasses import dataclass

from exposure_scan import __version__, classify, scope
from exposure_scan.model import DeviceClass, Host, Problem

from . import Notice, now, scan_site

TRIES = 3


@dataclass(frozen=True, slots=True)
class Learnt:
    """What the unit taught, and the address that was asked."""

    address: str
    lesson: classify.Lesson


async def learn(
    order: scope.Order,
    class_: DeviceClass,
    model: str | None,
    software: str | None,
    name: str,
    *,
    notice: Notice = lambda _: None,
) -> Learnt:
    """Scan the unit three times and make a fingerprint pack of what is its own.

    Args:
        order: whom to ask, with the authorization.
        class_: what the unit is, by the operator's word; server, handset or px.
        model: its model, where known.
        software: its software's version, where known.
        name: the pack's.
        notice: told of the progress.

    Raises:
        Problem: no live authorization, more than one address, or a unit that says it is something else.
    """
    origin = (
        f"learnt on {now():%Y-%m-%d} with exposure-scan {__version__} from a unit of one's own "
        f"({classify.PRODUCTS[class_]}{f', {model}' if model else ''}{f', software {software}' if software else ''}), "
        f"authorized by {order.authorization.by}"
    )
    tries = []
    for _ in range(TRIES):
        result = await scan_site(order, notice=notice)
        if len(result.scan.hosts) != 1:
            raise Problem(
                f"{order.site.name} is {len(result.scan.hosts)} addresses; learn from one unit at one address."
            )
        host = result.scan.hosts[0]
        _says_no_other(host, class_)
        tries.append({port.key: port.said for port in host.ports if port.said})
    unit = classify.Unit(class_, model, software, origin[:400])
    return Learnt(host.address, classify.learn(tries, unit, name))


def _says_no_other(host: Host, class_: DeviceClass) -> None:
    """Whatever the operator says: a unit that is known by verified words is not learnt as another."""
    for device in (host.device, *host.also):
        if device.class_ in classify.FAMILY - {class_, DeviceClass.ALLWORX}:
            shown = device.support[0]
            raise Problem(
                f"{host.address} says itself that it is an {classify.PRODUCTS[device.class_]} ({shown.field} on "
                f"{shown.port}: {shown.value[:80]!r}). Learn it as that, or find out what answers there."
            )
