"""What one SIP answer tells of the way to it: what came back against what was sent.

An answer must return Via, From, To, Call-ID and CSeq as they came (RFC 3261, section 8.2.6.2), and adds to
the Via where the request was seen to come from (section 18.2.1; RFC 3581, section 4). What differs was changed
on the way: by an application-level gateway (ALG), or by translation of addresses. Private addresses
(RFC 1918, RFC 6598) in what the peer says of itself stand behind the public one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

from exposure_scan.model import Address

from .sip_message import Message, Via
from .words import NAME

_PRIVATE = tuple(  # RFC 1918, section 3, and RFC 6598, section 7
    IPv4Network(network) for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
)
_MOST_LEAKS = 5
_ADDRESS = re.compile(r"(?<![\w.-])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![\w-]|\.[0-9])")
_URI = re.compile(r"sips?:(?:([^@\s<>;]{0,200})@)?(\[[0-9A-Fa-f:.]{2,60}\]|[\w.-]{1,120})(?::([0-9]{1,5}))?", re.ASCII)
_TAG = re.compile(r";\s*tag\s*=\s*([^\s;,]+)", re.IGNORECASE)
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_REALM = re.compile(r'realm\s*=\s*"([^"]*)"', re.IGNORECASE)
_SDP_ADDRESS = re.compile(rb"^(?:c=|o=.*?)IN IP4 ([0-9.]{7,15})", re.MULTILINE)

# Fields whose numbers with dots are addresses. Elsewhere (Server: x/10.1.2.3) they are versions, so in other
# fields only the host of a SIP URI counts.
_OF_ADDRESSES = frozenset(
    {"contact", "record-route", "route", "path", "service-route", "warning", "reply-to", "call-info", "error-info",
     "p-asserted-identity", "remote-party-id"}
)  # fmt: skip
_NOT_THEIRS = frozenset({"via", "from", "to", "call-id", "cseq"})  # what an answer repeats; judged on their own


@dataclass(frozen=True, slots=True)
class Sent:
    """What stood in our request. Addresses without brackets."""

    local: tuple[str, int]
    peer: tuple[str, int]
    default_port: int  # that a Via without one means: 5061 over TLS, else 5060
    branch: str
    call_id: str
    tag: str


@dataclass(slots=True)
class Path:
    """What the way did, as sentences, and the private addresses that the peer lets out, each with its place."""

    notes: list[str] = field(default_factory=list)
    private: list[str] = field(default_factory=list)  # "10.0.0.5 (Contact)"


def path(message: Message, sent: Sent) -> Path:
    """Hold an answer against the request that it answers."""
    found = Path()
    ours = _our_via(message, sent)
    if changes := list(dict.fromkeys(_changes(message, ours, sent))):
        found.notes.append(
            f"Our SIP request came back changed: {'; '.join(changes[:5])}. "
            "A SIP ALG does that: a router that rewrites SIP, on this side or on theirs."
        )
    if translation := _translation(ours, sent):
        found.notes.append(translation)
    _tell(found, _leaks(message, sent))
    return found


def let_out(message: Message, sent: Sent, request: bytes) -> Path:
    """The private addresses in an answer to somebody else's `request`, without those that it brought itself.

    What was changed on the way is not told: only who wrote the request knows what left there.
    """
    words = request.decode("latin-1")
    found = Path()
    _tell(found, (leak for leak in _leaks(message, sent) if leak[1] not in words))
    return found


def _tell(found: Path, leaks: Iterable[tuple[str, str]]) -> None:
    for place, address in list(dict.fromkeys(leaks))[:_MOST_LEAKS]:
        where = "session description (SDP)" if place == "SDP" else f"{place} field"
        found.notes.append(f"The SIP answer shows the private address {address} in its {where}.")
        found.private.append(f"{address} ({place})")


def _our_via(message: Message, sent: Sent) -> Via | None:
    """Our own Via in the answer: by its branch, else the last one, which ours was when we sent it."""
    vias = message.vias
    same = (via for via in vias if via.parameters.get("branch", "").casefold() == sent.branch.casefold())
    return next(same, vias[-1] if vias else None)


def _changes(message: Message, ours: Via | None, sent: Sent) -> Iterator[str]:
    """What of our own words came back otherwise, each as a few safe words."""
    if not message.fields.get("via"):
        yield "our Via is gone"
    if ours is not None:
        if not _same_end((ours.host, ours.port), sent.local, sent.default_port):
            yield f"Via {_end(*sent.local)} came back as {_end(ours.host, ours.port)}"
        if ours.parameters.get("branch", "").casefold() != sent.branch.casefold():
            yield "the branch of our Via is another"
        if others := [via for via in message.vias if via != ours]:
            yield f"the answer still carries the Via of {_end(others[0].host, others[0].port)}"
    if message.first("call-id") != sent.call_id:
        yield "the Call-ID is another"
    tag = _TAG.search(message.first("from"))
    if tag is not None and tag[1].casefold() != sent.tag.casefold():
        yield "the tag of our From is another"
    for name, label in (("from", "From"), ("contact", "Contact")):
        for value in message.fields.get(name, ())[:_MOST_LEAKS]:
            uri = _URI.search(value)
            if uri is None or uri[1] != NAME or _same_host(uri[2], sent.local[0]):
                continue
            yield f"our {label} {sent.local[0]} came back as {_bare(uri[2])}"
    to = _URI.search(message.first("to"))
    if to is not None and not _same_host(to[2], sent.peer[0]):
        yield f"our To {sent.peer[0]} came back as {_bare(to[2])}"


def _translation(ours: Via | None, sent: Sent) -> str | None:
    """Where the peer saw us, if not where we stand."""
    if ours is None:
        return None
    received, rport = _address(ours.parameters.get("received", "")), ours.parameters.get("rport", "")
    seen_host = sent.local[0] if received is None else str(received)
    seen_port = int(rport) if _PORT.fullmatch(rport) else sent.local[1]
    if _same_host(seen_host, sent.local[0]) and seen_port == sent.local[1]:
        return None
    sentence = f"The host saw our request come from {_end(seen_host, seen_port)}, not from {_end(*sent.local)}"
    if _private(received):
        side = "here or there" if _private(_address(sent.local[0])) else "at the site"
        return f"{sentence}: a router {side} translates addresses."
    if _private(_address(sent.local[0])):
        return f"{sentence}: addresses are translated on the way, as is usual where the scanner is behind a router."
    return f"{sentence}: addresses are translated on the way."


def _leaks(message: Message, sent: Sent) -> Iterator[tuple[str, str]]:
    """Private addresses with their places. What may be our own, on this side of our own router, is left out."""
    if _private(_address(sent.peer[0])):
        return  # a look from inside: private addresses are at home there
    repeated = [("Via", via.host) for via in message.vias]
    repeated += [("Via", via.parameters.get("received", "")) for via in message.vias]
    repeated += [("From", uri[2]) for uri in _URI.finditer(message.first("from"))]
    own: set[Address | None] = set()
    if _private(_address(sent.local[0])):
        # Translated twice, or by an ALG of ours, what repeats our words can hold addresses of this side.
        own = {_address(word) for word in (sent.local[0], *(word for _, word in repeated))}
    said = [("To", uri[2]) for uri in _URI.finditer(message.first("to"))]
    said += [
        (_label(name), word)
        for name, values in message.fields.items()
        if name not in _NOT_THEIRS
        for value in values
        for word in _words(name, value)
    ]
    if message.first("content-type").lower().startswith("application/sdp"):
        said += [("SDP", word.decode("ascii")) for word in _SDP_ADDRESS.findall(message.body)]
    # what the peer says of itself comes first: it is the better evidence
    for place, word in sorted(said, key=lambda one: one[0] != "Contact") + repeated:
        address = _address(word)
        if _private(address) and address not in own:
            yield place, str(address)


def _words(name: str, value: str) -> list[str]:
    """What may be an address of the peer's in one field's value. A Contact that names us repeats our own."""
    if name in ("www-authenticate", "proxy-authenticate"):
        return [word for realm in _REALM.findall(value) for word in _ADDRESS.findall(realm)]
    hosts = [uri[2] for uri in _URI.finditer(value) if uri[1] != NAME]
    if name not in _OF_ADDRESSES or f":{NAME}@" in value:
        return hosts
    return hosts + _ADDRESS.findall(value)


def _label(name: str) -> str:
    """A field's name as it is usually written, from a peer that may have made it up."""
    safe = re.sub(r"[^a-z0-9-]", "", name)[:40]
    return "WWW-Authenticate" if safe == "www-authenticate" else "-".join(map(str.capitalize, safe.split("-")))


# --- addresses -----------------------------------------------------------------------------------


def _address(word: str) -> Address | None:
    """The address that a word is; an IPv4 address in IPv6 form is the IPv4 address."""
    try:
        address = ip_address(word.strip("[]"))
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _private(address: Address | None) -> bool:
    return isinstance(address, IPv4Address) and any(address in network for network in _PRIVATE)


def _same_host(word: str, other: str) -> bool:
    address = _address(word)
    return word == other if address is None else address == _address(other)


def _same_end(end: tuple[str, int | None], other: tuple[str, int], default_port: int) -> bool:
    return _same_host(end[0], other[0]) and (default_port if end[1] is None else end[1]) == other[1]


def _bare(host: str) -> str:
    return host.strip("[]")[:60]


def _end(host: str, port: int | None) -> str:
    """Address and port, in safe words of bounded length."""
    host = _bare(host)
    return host if port is None else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
