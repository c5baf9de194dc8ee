"""Attributes and elements of Nmap's XML as values, each bounded."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address
from xml.etree.ElementTree import Element

from .values import LAST_PORT, TRANSPORTS, Damaged, NmapPort, NmapService, whole

LONGEST = 1000  # characters of one attribute
_LONGEST_OUTPUT = 4000  # of a script
_LONGEST_FINGERPRINT = 16_000
_MOST_SCRIPTS = 32  # of one port


def address_of(text: str) -> str | None:
    """An address in its usual form; None where the text is none, or has a zone."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return None if "%" in text else str(address)


def port(element: Element) -> NmapPort | None:
    """A `port` element with all that stands in it; None where it is neither TCP nor UDP, or port 0.

    Raises:
        Damaged: it has no state, or its number is none.
    """
    transport, place = TRANSPORTS.get(text(element, "protocol")), number(element, "portid")
    state = element.find("state")
    if transport is None or place == 0:
        return None
    if state is None or not 0 < place <= LAST_PORT:
        raise Damaged(f"a port of it ({text(element, 'portid')[:20]!a}) is none")
    by = text(state, "reason_ip")
    return NmapPort(
        transport,
        place,
        text(state, "state"),
        text(state, "reason"),
        (address_of(by) or "") if by else "",
        max(0, min(255, number(state, "reason_ttl"))),
        _service(element.find("service")),
        tuple(
            (text(one, "id"), one.get("output", "")[:_LONGEST_OUTPUT])
            for one in element.findall("script")[:_MOST_SCRIPTS]
        ),
        _elem(element, "http-title", "title"),
        _elem(element, "ssl-cert", "pem", _LONGEST_OUTPUT * 4),
    )


def _service(element: Element | None) -> NmapService | None:
    if element is None:
        return None
    return NmapService(
        text(element, "name"),
        text(element, "method"),
        max(0, min(10, number(element, "conf"))),
        text(element, "product"),
        text(element, "version"),
        text(element, "extrainfo"),
        text(element, "tunnel"),
        element.get("servicefp", "")[:_LONGEST_FINGERPRINT],
    )


def _elem(port: Element, script: str, key: str, most: int = LONGEST) -> str:
    """The text of one `elem` of a script's structured output; empty where there is none."""
    for one in port.findall("script"):
        if one.get("id") == script:
            for elem in one.findall("elem"):
                if elem.get("key") == key:
                    found = elem.text or ""
                    return found if len(found) <= most else ""
    return ""


def text(element: Element, key: str) -> str:
    """An attribute, at most `LONGEST` characters of it; empty where it is not there."""
    return element.get(key, "")[:LONGEST]


def number(element: Element, key: str) -> int:
    """An attribute that is a number; -1 where it is none."""
    return whole(element.get(key, ""))


def time(seconds: str | None) -> datetime | None:
    """Seconds since 1970, as Nmap writes times; None where it is no time of this age."""
    since = whole(seconds or "")
    return datetime.fromtimestamp(since, UTC) if 0 < since < 1 << 33 else None
