"""The checks: one function for each thing that a practice asks of the wire.

A check answers from what was seen, or returns None: no breach shows, and whether the practice is
kept only the operator can say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from exposure_scan.model import DeviceClass, Echo, Port, PortState, Status

from .inside import local_network_answers, router_forwards
from .look import (
    ADMIN,
    DARK,
    NAMES,
    WEB,
    Answer,
    Look,
    broken,
    class_of,
    evidence_of,
    foreign,
    listed,
    tell,
    told,
)
from .moved import MAIL, what_moving_bought
from .software import software

_SIP = ("udp/5060", "tcp/5060", "udp/5061", "tcp/5061")
_PHONE = ("tcp/80", "tcp/443", ADMIN, *_SIP)
_REMOTE_SERVICES = frozenset({"ssh", "telnet", "rfb"})
_REMOTE_PORTS = frozenset({"tcp/22", "tcp/23", "tcp/3389"})
_REMOTE_WEB = frozenset({ADMIN, "tcp/8443"})  # these numbers serve much else: only a web answer counts


def _sip_reachable(look: Look) -> Answer:
    answering = [port for port in look.open if port.service == "sip"]
    unexpected = [port for port in answering if not look.expected(port)]
    if unexpected:
        return broken(f"SIP can be reached from outside: {tell(unexpected)}.", *unexpected)
    sentence = "No SIP answer came from outside."
    if answering:
        sentence = f"SIP answers only where it is expected: {tell(answering)}."
    keys = (*(port.key for port in answering), *_SIP)
    return look.rests_on_silence(tuple(dict.fromkeys(keys)), sentence, answering)


def _admin_page_answers(look: Look) -> Answer | None:
    page = look.admin_page()
    if page is None:
        return None
    return broken(f"An Allworx web server answers on the port of the admin page: {told(page)}.", page)


def _admin_page_hidden(look: Look) -> Answer:
    if breach := _admin_page_answers(look):
        return breach
    port = look.ports.get(ADMIN)
    if port is not None and port.state is PortState.OPEN and foreign(port) and look.expected(port):
        what = port.product or "another product"
        sentence = f"{ADMIN} is expected to be open and is {what}, not the admin page."
        return look.rests_on_silence((ADMIN,), sentence, (port,))
    return look.rests_on_silence((ADMIN,), f"No admin page answered on {ADMIN}.")


def _voicemail_ports(look: Look) -> Answer:
    talking = [port for port in look.open if port.service in ("smtp", "imap")]
    standard = [port for port in talking if port.key in MAIL and not foreign(port)]
    if standard:
        note = " An expected port is no exception; a waiver is." if any(map(look.expected, standard)) else ""
        return broken(f"Mail answers on a standard port: {tell(standard)}.{note}", *standard)
    sentence = "No voicemail (SMTP, IMAP) answered on a standard port."
    if others := [port for port in talking if port.key in MAIL]:
        sentence += f" Mail of another product does: {tell(others)}."
    moved, bought = what_moving_bought(look)
    # The bulletin's rule needs SMTP and IMAP themselves; their further numbers count where they are open.
    asked = {"tcp/25", "tcp/143"} | {port.key for port in look.host.ports if port.state is PortState.OPEN}
    spoken = [port for port in look.open if port.service is not None]
    answer = look.rests_on_silence(tuple(key for key in MAIL if key in asked), f"{sentence}{bought}", spoken)
    return replace(answer, evidence=tuple(dict.fromkeys((*evidence_of(moved), *answer.evidence))))


def _unused_services(look: Look) -> Answer:
    declared = {*look.site.expect, *(f"tcp/{port}" for port in look.site.voicemail.values())}
    undeclared = [port for port in look.open if port.key not in declared]
    if undeclared:
        names = [f"{port.key} ({port.service or 'it does not say what'})" for port in undeclared]
        return broken(f"Open and declared by nobody: {listed(names)}.", *undeclared)
    # UDP that keeps silent is not open; TCP and whatever could not be asked must be settled
    wanted = ("tcp/25", "tcp/143", ADMIN, *_SIP)
    others = (port.key for port in look.host.ports if port.transport == "tcp" or port.state is PortState.UNMEASURED)
    keys = tuple(dict.fromkeys((*wanted, *others)))
    number = f"{len(look.host.ports)}"
    if look.host.sweep is not None:
        tcp = sum(port.transport == "tcp" for port in look.host.ports)
        swept = sum(group.number for group in look.host.swept)
        number = f"{tcp + swept:,} TCP and {len(look.host.ports) - tcp} UDP ports"
    sentence = f"No open port was found among the {number} that were asked."
    if look.open:
        sentence = f"Open are only declared ports: {listed([port.key for port in look.open])}."
        if look.host.sweep is not None:
            sentence += f" Asked were {number}."
    return look.rests_on_silence(keys, sentence, look.open, look.host.swept)


def _remote_administration(look: Look) -> Answer | None:
    def counts(port: Port) -> bool:
        spoke = port.service is not None or port.banner is not None
        if not spoke or (foreign(port) and look.expected(port)):
            return False
        if port.key in _REMOTE_WEB:
            return port.service in WEB
        return port.key in _REMOTE_PORTS or port.service in _REMOTE_SERVICES

    answering = [port for port in look.open if counts(port)]
    if not answering:
        return None
    return broken(f"Remote administration can be reached without a VPN: {tell(answering)}.", *answering)


def _answers_ping(look: Look) -> Answer:
    evidence = look.host.echo_evidence
    if look.host.echo is Echo.REPLIED:
        return Answer(Status.NOT_MET, "The address answers ping.", evidence)
    if look.host.echo is Echo.UNMEASURED:
        return Answer(Status.CANNOT_TELL, "Ping could not be measured.", evidence)
    if look.host.path.dark is not None:
        return Answer(Status.CANNOT_TELL, DARK, (*look.host.path.dark.evidence, *evidence))
    sentence = "Ping was not answered. A filter on the way looks the same."
    return look.if_somebody_is_there(Answer(Status.MET, sentence, evidence))


def _phone_answers(look: Look, wanted: DeviceClass) -> Answer:
    name = "Px Expander" if wanted is DeviceClass.PX else NAMES[wanted]
    others = frozenset({DeviceClass.OTHER, *NAMES}) - {wanted}
    web_or_sip = [port for port in look.open if port.service in WEB or port.service == "sip"]
    answering = [port for port in web_or_sip if class_of(port) not in others]
    if answering and wanted not in look.claimed and all(class_of(port) is not wanted for port in answering):
        because = f"It answers, but not what it is: {tell(answering)}. Declare the device to have it judged."
        return Answer(Status.CANNOT_TELL, because, evidence_of(answering))
    if answering:
        note = ""
        if all(map(look.expected, answering)):
            note = " It is expected, but the bulletin wants a firewall; a waiver is the way to accept it."
        return broken(f"The {name} can be reached from outside: {tell(answering)}.{note}", *answering)
    harmless = [port for port in look.open if port.service is not None]
    return look.rests_on_silence(_PHONE, f"No web page and no SIP of a {name} answered.", harmless)


CHECKS: Mapping[str, Callable[[Look], Answer | None]] = MappingProxyType(
    {
        "sip-reachable": _sip_reachable,
        "admin-page-answers": _admin_page_answers,
        "admin-page-hidden": _admin_page_hidden,
        "voicemail-ports": _voicemail_ports,
        "unused-services": _unused_services,
        "remote-administration": _remote_administration,
        "answers-ping": _answers_ping,
        "lan-services-leak": local_network_answers,
        "private-address-leaks": router_forwards,
        "handset-answers": partial(_phone_answers, wanted=DeviceClass.HANDSET),
        "px-answers": partial(_phone_answers, wanted=DeviceClass.PX),
        "software": software,
    }
)
