"""One host beside what its operator said, and the few questions that all checks ask of it.

What counts as open, as shut and as silent is decided here, once: a check never looks at a port's state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from types import MappingProxyType

from exposure_scan.model import DeviceClass, Host, Port, PortState, Site, Status, Swept
from exposure_scan.model.text import within

NAMES: Mapping[DeviceClass, str] = MappingProxyType(
    {DeviceClass.SERVER: "server", DeviceClass.HANDSET: "handset", DeviceClass.PX: "px"}
)
ALLWORX = frozenset({*NAMES, DeviceClass.ALLWORX})
# Somebody's word that the door is shut. It ends the asking, so it needs no repetition as silence does.
_REFUSALS = frozenset({"icmp-admin-prohibited", "icmp-host-prohibited", "icmp-net-prohibited", "icmp-port-unreachable"})
_SURE = 0.999  # that the silence is no loss
_ENOUGH_TRIES = 3  # two lost packets in a row are ordinary on a bad line; the third silence counts
ADMIN = "tcp/8080"
WEB = frozenset({"http", "https"})
_ENOUGH_KNOCKS = 2  # of a sweep's port, which nothing points to; the finding's confidence tells the difference
_OWN = "local-error: "  # begins a reason where this machine was at fault
_MOST_CITED = 12  # pieces of evidence for a practice that rests on many silent ports
_MOST_LISTED = 8  # ports in one sentence


DARK = "Something began to block this scan while it ran, so silence shows nothing."
NOBODY = "Nothing at this address has answered, so silence proves nothing."


@dataclass(frozen=True, slots=True)
class Answer:
    """What a check makes of a host. `UNDECLARED` means: the wire cannot tell, ask the operator."""

    status: Status
    because: str
    evidence: tuple[str, ...] = ()
    confidence: float | None = None  # that no lost packet made it; None where no measurement did


@dataclass(frozen=True)
class Look:
    """One host beside what the operator said, and the questions that checks share."""

    host: Host
    site: Site
    on: datetime  # when it was seen; aware

    @cached_property
    def claimed(self) -> frozenset[DeviceClass]:
        """The specific Allworx classes seen or declared here."""
        seen = {device.class_ for device in (self.host.device, *self.host.also)}
        return frozenset(cls for cls in NAMES if cls in seen or cls is self.site.device)

    @cached_property
    def ports(self) -> Mapping[str, Port]:
        """What was asked, by ``tcp/80``."""
        return {port.key: port for port in self.host.ports}

    def blurred(self, port: Port) -> bool:
        """Open by a handshake alone, where something on the way completes handshakes for everybody."""
        wordless = port.service is None and port.banner is None
        return port.state is PortState.OPEN and wordless and port.key in self.host.path.blurred

    @cached_property
    def open(self) -> tuple[Port, ...]:
        """The ports that are open for certain."""
        return tuple(port for port in self.host.ports if port.state is PortState.OPEN and not self.blurred(port))

    def expected(self, port: Port) -> bool:
        """Whether the operator declared that this port is meant to be open."""
        return port.key in self.site.expect

    def admin_page(self) -> Port | None:
        """The admin port, where an Allworx web server answers on it."""
        port = self.ports.get(ADMIN)
        if port is None or port.state is not PortState.OPEN or port.service not in WEB:
            return None
        return port if class_of(port) in ALLWORX else None

    def rests_on_silence(
        self, keys: Sequence[str], sentence: str, judged: Iterable[Port] = (), swept: Sequence[Swept] = ()
    ) -> Answer:
        """Met if each of `keys` was asked and is shut (or is `judged` harmless) and somebody is there.

        The ports of `swept` must be shut, too.
        """
        harmless = {port.key for port in judged}
        ports = [port for key in keys if (port := self.ports.get(key)) is not None]
        asked = {port.key for port in ports if port.state is not PortState.UNMEASURED}
        if unasked := [key for key in keys if key not in asked]:
            return Answer(
                Status.CANNOT_TELL, f"Not measured: {listed(unasked)}.{_own(ports)} Nothing is known of that."
            )
        doubtful = [port for port in ports if port.key not in harmless and not _shut(port)]
        unsure = [group for group in swept if not knocked_shut(group)]
        if doubtful or unsure:
            doubts = [*(self._doubt(port) for port in doubtful[:_MOST_LISTED]), *map(_swept_doubt, unsure)]
            cited = (*evidence_of(doubtful), *evidence_of(unsure))
            return Answer(Status.CANNOT_TELL, " ".join(dict.fromkeys(doubts[:_MOST_LISTED])), cited)
        shut: tuple[Port | Swept, ...] = (*swept, *ports)
        evidence = evidence_of(shut)[:_MOST_CITED]
        if self.host.path.dark is not None and any(one.by is None for one in shut):
            return Answer(Status.CANNOT_TELL, DARK, (*self.host.path.dark.evidence, *evidence)[:_MOST_CITED])
        # A breach is missed only where its own port is: the least sure port bounds the whole.
        sure = min((one.confidence for one in shut if one.confidence is not None), default=1.0)
        return self.if_somebody_is_there(Answer(Status.MET, sentence, evidence, round(sure, 6)))

    def if_somebody_is_there(self, answer: Answer) -> Answer:
        """The answer, which rests on silence, or that silence proves nothing here."""
        if self.host.alive.proven:
            return answer
        if not is_present(self.site, self.on):
            return Answer(Status.CANNOT_TELL, NOBODY, answer.evidence)
        return replace(answer, because=f"{answer.because} {presence(self.site)}")

    def _doubt(self, port: Port) -> str:
        if self.blurred(port):
            return "Something on the way completes handshakes for everybody, so an open port shows nothing."
        if port.state is PortState.OPEN:
            if port.service is None and port.banner is None:
                return f"{port.key} is open and said nothing that tells what it is; it needs a look."
            return f"{told(port)}, which does not settle the matter; it needs a look."
        if port.by is not None:
            return f"{port.by} said {port.reason} of the way there, which does not show what is open behind it."
        return f"{port.key} was silent, but was not asked often enough to count as shut."


def class_of(port: Port) -> DeviceClass | None:
    """What the port was recognised as, if as anything."""
    return None if port.device is None else port.device.class_


def foreign(port: Port) -> bool:
    """Whether the port is known to be a product of somebody else."""
    return class_of(port) is DeviceClass.OTHER


def _shut(port: Port) -> bool:
    if port.state is PortState.CLOSED:
        return True
    quiet = port.state in (PortState.FILTERED, PortState.OPEN_FILTERED)
    # A router that finds no way to the host says nothing of its ports, however often it says so.
    sure = port.by is None and port.tries >= _ENOUGH_TRIES and (port.confidence is None or port.confidence >= _SURE)
    return quiet and (sure or port.reason in _REFUSALS)


def knocked_shut(group: Swept) -> bool:
    """Whether the ports of a sweep's group are known to be shut."""
    if group.state is PortState.FILTERED:
        return group.reason in _REFUSALS or (group.by is None and group.tries >= _ENOUGH_KNOCKS)
    return group.state is PortState.CLOSED


def _own(ports: Iterable[Port]) -> str:
    """Why the scanner's own machine could not ask, where that was it."""
    said = (port.reason.removeprefix(_OWN) for port in ports if port.reason.startswith(_OWN))
    faults = list(dict.fromkeys(said))
    return f" The scanner's own machine could not ask: {listed(faults)}." if faults else ""


def _swept_doubt(group: Swept) -> str:
    several = group.number > 1
    ports = f"{group.number:,} of the TCP ports that were swept" if several else f"tcp/{group.ports}"
    if group.state is PortState.OPEN:
        return f"{ports} took a connection and {'were' if several else 'was'} not asked more: too many did."
    if group.state is PortState.UNMEASURED:
        return f"{ports} {'were' if several else 'was'} not measured ({group.reason}). Nothing is known of that."
    if group.by is not None:
        said = f"{group.by} said {group.reason} of the way to {ports}"
        return f"{said}, which does not show what is open behind it."
    silent = f"{ports} {'were' if several else 'was'} silent"
    return f"{silent}, but {'were' if several else 'was'} not asked often enough to count as shut."


def evidence_of(ports: Iterable[Port | Swept]) -> tuple[str, ...]:
    """The ids of what shows these ports."""
    return tuple(dict.fromkeys(id_ for port in ports for id_ in port.evidence))


def told(port: Port) -> str:
    """What a port said, in words that fit a sentence: one line, printable, 80 characters of it at most."""
    text = within(port.banner or "", 400)
    text = text if len(text) <= 80 else text[:79] + "…"
    if text:
        return f'{port.key} said "{text}"'
    return f"{port.key} answers {port.service.upper()}" if port.service else f"{port.key} is open"


def tell(ports: Sequence[Port]) -> str:
    """What several ports said."""
    more = len(ports) - _MOST_LISTED
    return "; ".join(map(told, ports[:_MOST_LISTED])) + (f"; and {more} more" if more > 0 else "")


def listed(words: Sequence[str]) -> str:
    """The words with commas, and how many more where a sentence would burst."""
    more = len(words) - _MOST_LISTED
    return ", ".join(words[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def is_present(site: Site, on: datetime) -> bool:
    """Whether a person has confirmed that the site is live, and lately enough."""
    return site.present is not None and on < site.present.ends


def presence(site: Site) -> str:
    """Who confirmed that the site is live; empty where nobody did."""
    if site.present is None:
        return ""
    return f"The live site is at this address, as {site.present.by} confirmed on {site.present.on:%Y-%m-%d}."


def broken(because: str, *ports: Port) -> Answer:
    """Not met, shown by exactly these ports."""
    return Answer(Status.NOT_MET, because, evidence_of(ports), 1.0)
