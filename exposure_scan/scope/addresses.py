"""What a target may be called and which addresses may be asked at all.

Programs disagree on what "127.1" or "010.0.0.1" means, so only the one full form of an address is
read, and nothing that looks like a number is ever taken for a name. The kinds of addresses follow
the IANA special-purpose registries (RFC 6890 and its updates).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Literal, TypeAlias

from exposure_scan.model import Address
from exposure_scan.model.text import quoted

Network: TypeAlias = IPv4Network | IPv6Network

MOST = 256  # addresses a site (design, section 2)

_Kind: TypeAlias = Literal["never", "internal", "public"]

# The first row that holds an address decides. Documentation and benchmark ranges (RFC 5737, RFC 2544,
# RFC 3849, RFC 9637, RFC 5180) are the practice site's, and public here.
_TABLE: tuple[tuple[str, _Kind, str], ...] = (
    ("0.0.0.0/32", "never", "the unspecified address (RFC 1122)"),
    ("0.0.0.0/8", "never", "reserved for hosts without an address (RFC 1122)"),
    ("10.0.0.0/8", "internal", "private (RFC 1918)"),
    ("100.64.0.0/10", "internal", "shared among a provider's customers (RFC 6598)"),
    ("127.0.0.0/8", "internal", "loopback, this computer itself (RFC 1122)"),
    ("169.254.0.0/16", "internal", "link-local (RFC 3927)"),
    ("172.16.0.0/12", "internal", "private (RFC 1918)"),
    ("192.0.0.0/24", "never", "reserved for protocols (RFC 6890)"),
    ("192.88.99.0/24", "never", "reserved, once for 6to4 relays (RFC 7526)"),
    ("192.168.0.0/16", "internal", "private (RFC 1918)"),
    ("224.0.0.0/4", "never", "multicast (RFC 5771)"),
    ("255.255.255.255/32", "never", "broadcast (RFC 919)"),
    ("240.0.0.0/4", "never", "reserved (RFC 1112)"),
    ("0.0.0.0/0", "public", "public"),
    ("::/128", "never", "the unspecified address (RFC 4291)"),
    ("::1/128", "internal", "loopback, this computer itself (RFC 4291)"),
    ("fc00::/7", "internal", "unique local (RFC 4193)"),
    ("fe80::/10", "internal", "link-local (RFC 4291)"),
    ("ff00::/8", "never", "multicast (RFC 4291)"),
    ("64:ff9b::/96", "never", "a translated IPv4 address (RFC 6052)"),
    ("2002::/16", "never", "a tunnel to an IPv4 address (RFC 3056)"),
    ("2001:2::/48", "public", "public"),
    ("2001::/23", "never", "reserved for protocols such as Teredo (RFC 2928)"),
    ("2000::/3", "public", "public"),
    ("::/0", "never", "reserved (RFC 4291)"),
)
_RULES: tuple[tuple[Network, _Kind, str], ...] = tuple((ip_network(text), kind, what) for text, kind, what in _TABLE)

_FORMS = "give an address in full (198.51.100.7), a network (198.51.100.0/28) or a name"
_DOTTED = re.compile(r"[0-9]+(\.[0-9]+)*")
_RANGE = re.compile(r"[0-9.]+-[0-9.]+")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def shown(value: object) -> str:
    """A value of the sites file for a message, at most one short line."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int) and abs(value) >= 10**18:  # TOML reads numbers that Python refuses to print
        return "a number of that size"
    return str(value)


def read_target(text: str) -> Address | Network | str:
    """An address, a network of at most 256 addresses, or a name in lower case without its last dot.

    IPv4-mapped IPv6 comes back as its IPv4 (RFC 4291, section 2.5.5.2).

    Raises:
        ValueError: none of these; the message is the sentence for the user, without its subject.
    """
    word = text.strip()
    if not word:
        raise ValueError(f"an empty target; {_FORMS}")
    if "://" in word:
        raise ValueError(f"{quoted(text)} is a web address; give only the name or the address in it")
    if "/" in word:
        network = read_network(word)
        if network.num_addresses > MOST:
            raise ValueError(
                f"{quoted(text)} holds more than {MOST} addresses, the most that a site may have; "
                "name a smaller network"
            )
        return network
    if ":" in word or "%" in word or not word.removesuffix(".").rpartition(".")[2][:1].isalpha():
        return _read_address(word)
    return _read_name(word)


def read_network(text: str) -> Network:
    """A network, or an address as the network of that one address; a mapped one as its IPv4.

    Raises:
        ValueError: as `read_target`.
    """
    word, slash, prefix = text.strip().partition("/")
    base = _read_raw(word)
    most = base.max_prefixlen
    if slash and (not re.fullmatch(r"[0-9]{1,3}", prefix) or int(prefix) > most):
        raise ValueError(f"{quoted(text)} is no network: after the slash, a length from 0 to {most} is expected")
    length = int(prefix) if slash else most
    network = ip_network((base, length), strict=False)
    if network.network_address != base:
        raise ValueError(f"{quoted(text)} is no network: it begins at {network}; write that, or the address alone")
    if isinstance(network, IPv6Network) and length >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, length - 96))
    return network


def plain(address: Address) -> Address:
    """The address as it is judged and asked: IPv4-mapped IPv6 is its IPv4."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def refusal(address: Address, fence: Sequence[Network], *, internal: bool) -> str | None:
    """Why this address may not be asked, as the rest of a sentence that begins with it; None if it may.

    An empty fence is no fence.
    """
    address = plain(address)
    kind, what = next((kind, what) for network, kind, what in _RULES if address in network)
    if kind == "never":
        return f"is {what} and is never scanned"
    if kind == "internal" and not internal:
        return f"is {what}; such addresses need internal = true in the sites file, or --internal"
    if fence and not any(address in network for network in fence):
        return f"is outside the fence ({', '.join(map(str, fence))}); correct the target or the fence"
    return None


def literals(
    targets: Iterable[str], fence: Sequence[Network], *, internal: bool
) -> tuple[list[Address], list[str], list[tuple[int, str]]]:
    """What the targets say by themselves, before any name is looked up.

    Returns the addresses and the names, each once and in order, and the mistakes as pairs of the
    target's place (from 0) and a sentence without its full stop.
    """
    addresses: dict[Address, None] = {}
    names: dict[str, None] = {}
    mistakes: list[tuple[int, str]] = []
    place = 0
    for place, text in enumerate(targets):
        try:
            read = read_target(text)
        except ValueError as error:
            mistakes.append((place, str(error)))
            continue
        if isinstance(read, str):
            names[read] = None
            continue
        found: list[Address] = [*read] if isinstance(read, IPv4Network | IPv6Network) else [read]
        refused = ((address, refusal(address, fence, internal=internal)) for address in found)
        first = next(((address, why) for address, why in refused if why), None)
        if first is None:
            addresses.update(dict.fromkeys(found))
        elif len(found) == 1:
            mistakes.append((place, f"{quoted(text)} {first[1]}"))
        else:
            mistakes.append((place, f"{quoted(text)}: {first[0]} in it {first[1]}"))
    if len(addresses) > MOST or len(names) > MOST:
        mistakes.append((place, f"the targets are more than {MOST} addresses; divide them among several sites"))
    return list(addresses), list(names), mistakes


def _read_address(word: str) -> Address:
    return plain(_read_raw(word))


def _read_raw(word: str) -> Address:
    """An address in its one full form, mapped or not."""
    if "%" in word:
        raise ValueError(f"{quoted(word)} has a zone (%...), which means something on one computer only; leave it out")
    if word.startswith("["):
        raise ValueError(f"{quoted(word)} has brackets; give the address without brackets and port")
    try:
        return IPv6Address(word) if ":" in word else IPv4Address(word)
    except ValueError:
        raise ValueError(f"{quoted(word)} {_explain(word)}; {_FORMS}") from None


def _explain(word: str) -> str:
    if ":" in word:
        if re.fullmatch(r"[^:]+:[0-9]+", word):
            return "has a port; ports are chosen with --ports"
        return "is no IPv6 address"
    if re.search(r"(^|\.)0x", word, re.IGNORECASE):
        return "is an address in hexadecimal, which programs read differently"
    if _RANGE.fullmatch(word):
        return "is a range, and only networks are read"
    if not _DOTTED.fullmatch(word):
        return "is neither an address nor a name"
    parts = word.split(".")
    if any(len(part) > 1 and part.startswith("0") for part in parts):
        return "has leading zeros, which some programs read as octal"
    if len(parts) == 1:
        return "is an address as one number, which is easily mistyped"
    if len(parts) < 4:
        return "is a short form of an address, which programs read differently"
    return "is no IPv4 address: it has four numbers from 0 to 255"


def _read_name(word: str) -> str:
    """A host name (RFC 1123, section 2.1, and the underscore that some zones use)."""
    if not word.isascii():  # asked before case is dropped: the Kelvin sign becomes a k
        raise ValueError(f"{quoted(word)} has letters outside ASCII; write the name in its xn-- form")
    name = word.removesuffix(".").lower()
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError(f"{quoted(word)} is neither an address nor a name; {_FORMS}")
    return name
