"""What shows the inside of a site, how strongly, and what a technician should check then.

From outside nobody sees a cable. What is seen are services and addresses that belong on a local network:

- strong: TFTP, DHCP, SMB or NetBIOS answers. None of them is ever meant for the Internet.
- medium: a name server that resolves for strangers. It may be the local network's, or the firewall's own; it
  counts only where the Allworx admin page, which belongs on the same network, answers beside it.
- a hint: the admin page alone, which a checkbox offers on the WAN port too; time (NTP), SNMP, and a name server
  that refuses, which are a firewall's own as often; a private address in a SIP answer, which a server behind a
  firewall shows as well. Hints never break a practice: they tell where to look.
"""

from __future__ import annotations

from dataclasses import dataclass

from exposure_scan.model import Port, Status

from .look import Answer, Look, broken, evidence_of, foreign, listed, tell

_LOCAL_ONLY = frozenset({"tftp", "dhcp", "smb", "netbios"})
_A_FIREWALLS_TOO = frozenset({"dns", "ntp", "snmp"})
_UNSEEN = "No breach was seen from outside, which does not show that there is none."
_CABLE = (
    "Check whether the Internet line is in the LAN port, what a router forwards to that port, and "
    "Network > Configuration > Network Mode."
)
_ROUTER = (
    "so a router is in front. Check whether it forwards to the LAN port (or a DMZ host), and "
    "Network > Configuration > Network Mode."
)
_LAN_SIDE = (
    "Unless Allow admin configuration on WAN interface is checked (Network > Configuration > modify), "
    "that is the LAN side."
)
_FORWARDED = "Check in the router's list of forwarded ports whether any leads to the server's LAN port."


@dataclass(frozen=True, slots=True)
class Inside:
    """The signs of a local network on one host."""

    local_only: tuple[Port, ...]
    resolving: tuple[Port, ...]  # name servers that resolve for strangers
    shared: tuple[Port, ...]  # what a firewall answers itself as well, but for what the operator expects
    page: Port | None  # the Allworx admin page
    leaking: tuple[Port, ...]  # SIP that lets private addresses out

    @property
    def services(self) -> tuple[Port, ...]:
        """What is shown to come from a local network, without the page; empty where nothing is."""
        return (*self.local_only, *self.resolving) if self.local_only or self.page else ()

    @property
    def pages(self) -> tuple[Port, ...]:
        """The page, as ports to cite."""
        return (self.page,) if self.page else ()

    @property
    def answers(self) -> str:
        """A sentence on the services."""
        beside = f", beside the admin page on {self.page.key}" if self.page else ""
        return f"A service of a local network answers: {tell(self.services)}{beside}."

    @property
    def addresses(self) -> str:
        """The private addresses of the first port that shows any, with the fields that do."""
        return f"{self.leaking[0].key} shows the private address {self.leaking[0].said['sip.private']}"


def inside(look: Look) -> Inside:
    """The signs, from no product of somebody else that we know.

    Over IPv6 nothing is forwarded by translation, so a private address tells nothing of the way there.
    """
    ours = [port for port in look.open if not foreign(port)]
    resolving = tuple(port for port in ours if port.service == "dns" and port.said.get("dns.ra") == "1")
    return Inside(
        local_only=tuple(port for port in ours if port.service in _LOCAL_ONLY),
        resolving=resolving,
        shared=tuple(port for port in ours if port.service in _A_FIREWALLS_TOO and not look.expected(port)),
        page=look.admin_page(),
        leaking=tuple(
            port
            for port in ours
            if port.service == "sip" and port.said.get("sip.private") and ":" not in look.host.address
        ),
    )


def local_network_answers(look: Look) -> Answer | None:
    """Services of a local network can be reached, however that comes."""
    seen = inside(look)
    if not seen.services:
        return _hint(seen.pages, [f"{_page(seen)} {_LAN_SIDE}"] if seen.page else [], seen)
    because = f"{seen.answers} {f'{seen.addresses}, {_ROUTER}' if seen.leaking else _CABLE}"
    if any(map(look.expected, seen.services)):
        because += " An expected port is no exception; a waiver is."
    return broken(because, *seen.services, *seen.pages, *seen.leaking)


def router_forwards(look: Look) -> Answer | None:
    """A router in front passes packets on to the inside: a private address shows, and what belongs there answers."""
    seen = inside(look)
    ports = (*seen.services, *seen.pages)
    answers = seen.answers if seen.services else _page(seen)
    if ports and seen.leaking:
        return broken(f"{seen.addresses}. {answers} {_FORWARDED}", *seen.leaking, *ports)
    if ports:
        return _hint(ports, [answers, _FORWARDED], seen)
    if seen.leaking:
        return _hint(seen.leaking, [f"{seen.addresses}, so a router is in front and passes SIP on.", _FORWARDED], seen)
    return _hint((), [], seen)


def _page(seen: Inside) -> str:
    return f"The admin page answers on {seen.page.key}." if seen.page else ""


def _hint(ports: tuple[Port, ...], hints: list[str], seen: Inside) -> Answer | None:
    """No breach, and why to look all the same; None where there is no reason to."""
    shared = () if seen.services else seen.shared
    if shared:
        names = [f"{port.key} ({port.service}{' for anybody' if port in seen.resolving else ''})" for port in shared]
        told = f"These may be a firewall's own: {listed(names)}. "
        hints = [*hints, f"{told}If one is the server's, strangers may reach its LAN side."]
    return Answer(Status.UNDECLARED, " ".join((_UNSEEN, *hints)), evidence_of((*ports, *shared))) if hints else None
