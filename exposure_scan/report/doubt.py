"""What keeps silence from being safety: the way, the scanner's own network, and how old a person's word is.

Each doubt is told where it is needed: as a caution beside the verdict, as facts where the address is
told, and as a step to take. Pieces that came from outside are cleaned one by one (`within`), so that
none can swallow the words of ours that follow it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from exposure_scan.model import Finding, Hop, Host, Path, Port, PortState, RouterError, Scan, Status, Swept
from exposure_scan.model.text import within

from . import words

_PLANNED_LOSS = 0.0975  # 5 % each way, both ways together: what three tries are laid out for
_LATE_MS = 100  # the scanner's own lateness, from which on it is told
_MOST = 8  # ports in one sentence
_MOST_TOLD = 3  # addresses with a clause each in one sentence
_MOST_ERRORS = 4
_MOST_PACKS = 4
_PASSED_ON = "icmp-time-exceeded"
_NOBODY_THERE = frozenset({"icmp-host-unreachable", "icmp-host-unknown"})
_READ = frozenset({"software.supported"})  # practices that rest on reading a text rightly, never on silence
_MEASURED = (Status.MET, Status.NOT_MET, Status.CANNOT_TELL)


@dataclass(frozen=True, slots=True)
class Doubt:
    """One doubt and its cure. `caution` is empty where the verdict's own sentence says it already."""

    caution: str
    title: str = ""  # of the step; empty where there is nothing to do
    what: str = ""
    why: str = ""
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fact:
    """Something about the way or the scanner. `brief` says that it earns lines in a terminal."""

    name: str
    lines: tuple[str, ...]
    brief: bool = True


# --- what is in doubt ----------------------------------------------------------------------------


def vouched(scan: Scan) -> bool:
    """Whether a person's word that the live site is there still counted when the scan began."""
    present = scan.site.present
    return present is not None and words.utc(present.ends) > words.utc(scan.started)


def silent_hosts(scan: Scan) -> list[str]:
    """Addresses where nothing proves that somebody is there, and no word that counts says so."""
    return [] if vouched(scan) else [host.address for host in scan.hosts if not host.alive.proven]


def doubts(scan: Scan) -> tuple[Doubt, ...]:
    """Every doubt of a scan, the most urgent first."""
    return (
        *_inside(scan),
        *_dark(scan),
        *_presence(scan),
        *_vantage(scan),
        *_middlebox(scan),
        *_lossy(scan),
    )


def _inside(scan: Scan) -> Iterable[Doubt]:
    if not scan.vantage.outside:
        yield Doubt(
            "This is no outside view: the scan ran inside the site's network.",
            "Scan once more from outside",
            "Run the scan from a network that does not belong to the site.",
            "Only that shows what strangers on the Internet see.",
        )


def _dark(scan: Scan) -> Iterable[Doubt]:
    hosts = [host for host in scan.hosts if host.path.dark is not None]
    if not hosts:
        return
    shown = " ".join(f"At {within(host.address, 45)}, {dark_text(host.path)}" for host in hosts[:_MOST_TOLD])
    shown += f" So it was at {len(hosts) - _MOST_TOLD} more." if len(hosts) > _MOST_TOLD else ""
    yield Doubt(
        f"{shown} Something on the way began to block the scanner, so what was silent may be open.",
        "Let the scanner through, then scan again",
        f"Allow the scanner's address (it scans from {within(scan.vantage.name)}) in the firewall and in its "
        "intrusion protection, or wait until the block has ended. Then repeat the scan.",
        "Something on the way noticed the scan and began to drop its packets. Silence after that is its doing.",
        _addresses(hosts),
    )


def _presence(scan: Scan) -> Iterable[Doubt]:
    silent = tuple(silent_hosts(scan))
    caution = ""
    present = scan.site.present
    if present is not None:
        word = f"{_confirmed(scan)} that the live site is at this address."
        ends = words.moment(present.ends)
        if vouched(scan):
            yield Doubt(f"{word} That is a person's word, not a measurement, and it counts until {ends}.")
        else:
            caution = f"{word} That word counted until {ends}; it has expired."
    if silent:
        what = "Check the address and the line. If the site is live and meant to be silent, let a named person "
        yield Doubt(
            caution,
            "Make sure that the site is there",
            what + ("confirm it again, and scan soon after." if caution else "confirm it."),
            "A wrong address or an unplugged cable is just as silent as a good firewall.",
            silent,
        )


def _vantage(scan: Scan) -> Iterable[Doubt]:
    seen = scan.vantage
    if not (seen.blind or seen.forged):
        return
    cures = [f"Have {_listed(seen.blind)} let out by the provider or firewall on the scanner's side"] * bool(seen.blind)
    cures += [f"Take away what answers there on {_listed(seen.forged)} (a proxy, an antivirus)"] * bool(seen.forged)
    yield Doubt(
        f"The scanner's own network cannot see everything: {_blind_spots(scan)} These ports were not measured.",
        "Scan from a network that can see these ports",
        f"{'. '.join(cures)}; or scan from another network. `exposure-scan vantage check` shows what gets out.",
        "A port that is filtered on the scanner's side looks shut at every address.",
    )


def _middlebox(scan: Scan) -> Iterable[Doubt]:
    hosts = [host for host in scan.hosts if host.path.middlebox is not None]
    if not hosts:
        return
    ports = list(dict.fromkeys(key for host in hosts for key in host.path.blurred))
    shown = f"an open port there ({_listed(ports)})" if ports else "an open port there"
    which = _listed(ports) if ports else "the open ports"
    yield Doubt(
        f"Something on the way accepts connections in place of {_listed(_addresses(hosts))}: "
        f"{shown} shows nothing until it says a word.",
        "Take the helper out of the way, then scan again",
        f"On the firewall or router, look whether {which} are forwarded at all. Switch off the SIP helper (SIP ALG) "
        "or SYN proxy there, at least for the scanner, and repeat the scan.",
        "It accepts connections even for addresses that do not exist, so nobody can tell what is behind it.",
        _addresses(hosts),
    )


def _lossy(scan: Scan) -> Iterable[Doubt]:
    hosts = [host for host in scan.hosts if (host.path.loss or 0) > _PLANNED_LOSS]
    if not hosts:
        return
    shown = "; ".join(f"at {within(host.address, 45)}, {loss_text(host.path)}" for host in hosts[:_MOST_TOLD])
    shown += f"; and so at {len(hosts) - _MOST_TOLD} more" if len(hosts) > _MOST_TOLD else ""
    thin = {f.host for f in scan.findings if f.status is Status.CANNOT_TELL or unsure(f)}
    cure = bool(thin & {host.address for host in hosts})  # enough tries settle everything on a bad line, too
    yield Doubt(
        f"The line lost many packets: {shown}. An answer may have been lost with them.",
        "Scan again over a better line" if cure else "",
        "Repeat the scan when the line is quieter, or from another network. If it stays like this, "
        "have the line checked: calls suffer, too.",
        "Where packets are lost, an open port can look silent.",
        _addresses(hosts),
    )


# --- how sure a finding is -----------------------------------------------------------------------


def unsure(finding: Finding) -> str:
    """How often chance makes such a finding, where that is more than the tries are laid out for; else empty."""
    if finding.status not in _MEASURED or finding.confidence is None or finding.confidence >= words.SURE:
        return ""
    often = words.chance(finding.confidence)
    if finding.status is Status.NOT_MET or finding.practice in _READ:
        return f"Not beyond doubt: such a sighting is mistaken {often}."
    return f"Not beyond doubt: an answer is missed {often} on this line."


def sureness(finding: Finding, host: Host) -> str:
    """What would have to go wrong for the finding to be wrong; empty where it rests on no measurement."""
    if doubtful := unsure(finding):
        return doubtful
    if finding.status not in _MEASURED or finding.confidence is None:
        return ""
    often = words.chance(finding.confidence)
    if finding.confidence == 1:
        return "It rests on answers that came; no lost packet can change it."
    cited = set(finding.evidence)
    asked: tuple[Port | Swept, ...] = (*host.ports, *host.swept)
    silences = [
        one.tries
        for one in asked
        if one.state in (PortState.FILTERED, PortState.OPEN_FILTERED) and one.tries and cited & set(one.evidence)
    ]
    if silences:
        times = words.count(min(silences), "time", "times in a row")
        return f"To be wrong, packets would have to be lost {times}, which happens {often}."
    return f"An answer is missed {often}."


# --- facts about the way and the scanner ---------------------------------------------------------


def way_facts(host: Host) -> tuple[Fact, ...]:
    """What is known of the way to an address."""
    path = host.path
    facts = [Fact("Lost packets", (_sentence(loss_text(path)),), brief=bool(path.loss))]
    if path.middlebox is not None:
        made = (f"Perhaps its doing, not the address's: {_listed(path.blurred)}.",) if path.blurred else ()
        facts.append(Fact("On the way", (_sentence(within(path.middlebox, 240)), *made)))
    if path.errors:
        shown = [_error(error) for error in path.errors[:_MOST_ERRORS]]
        more = len(path.errors) - _MOST_ERRORS
        shown += [f"{words.count(more, 'more kind', 'more kinds')} of error are in the JSON."] if more > 0 else []
        facts.append(
            Fact(
                "Routers said", (*shown, "A router's word is about the way. It does not prove that the host is there.")
            )
        )
    if path.last_hop is not None:
        facts.append(Fact("Last hop", (_hop(path.last_hop),)))
    if path.dark is not None:
        facts.append(Fact("Went dark", (dark_text(path),), brief=False))  # the caution says it
    return tuple(facts)


def scan_facts(scan: Scan) -> tuple[Fact, ...]:
    """What is known of the scanner, and whose word counts for the presence of the site."""
    return tuple(_scan_facts(scan))


def _scan_facts(scan: Scan) -> Iterable[Fact]:
    seen = scan.vantage
    lines = [within(seen.name, 120) + ("." if seen.outside else "; inside the site's network, no outside view.")]
    if seen.checked:
        when = f"checked on {words.moment(seen.on)}" if seen.on else "checked"
        spots = _blind_spots(scan)
        lines.append(
            f"This network was {when}: "
            + (f"{spots} These ports were not measured." if spots else "it lets all questions out.")
        )
    else:
        lines.append("Nobody has checked that this network lets all questions out (`exposure-scan vantage check`).")
        lines += [f"Known of it: {_blind_spots(scan)} These ports were not measured."] * bool(seen.blind or seen.forged)
    yield Fact("Scanned from", tuple(lines), brief=False)
    present = scan.site.present
    if present is not None:
        state = "It counts" if vouched(scan) else "It has expired: it counted"
        yield Fact(
            "Confirmed present",
            (
                f"{_confirmed(scan)}. {state} until {words.moment(present.ends)}.",
                "That is a person's word, not a measurement.",
            ),
            brief=False,
        )
    if scan.packs:
        shown = [
            f"{within(pack.name, 60)}: {_sentence(within(pack.origin, 200))} SHA-256 starts {pack.sha256[:12]}."
            for pack in scan.packs[:_MOST_PACKS]
        ]
        more = len(scan.packs) - _MOST_PACKS
        shown += [f"{words.count(more, 'more pack is', 'more packs are')} in the JSON."] if more > 0 else []
        yield Fact("Fingerprint packs", tuple(shown))
    if scan.lag_ms > _LATE_MS:
        late = f"about {round(scan.lag_ms, -1):.0f} ms" if scan.lag_ms < 1000 else f"about {scan.lag_ms / 1000:.1f} s"
        counts = "Answers that came in time count all the same."
        yield Fact("Scanner's delay", (f"The scanner itself was {late} late at worst. {counts}",))


def loss_text(path: Path) -> str:
    """The loss with the number of tries it was measured on; it is never told more finely than whole percents."""
    if path.loss is None:
        return "loss could not be measured, because too little answered"
    tries = f"{path.samples} {'try' if path.samples == 1 else 'tries'}" if path.samples else "the tries"
    if path.loss == 0:
        return f"none of {tries} came to nothing"
    share = "less than 1%" if path.loss < 0.01 else f"{path.loss:.0%}"
    return f"{share} of {tries} came to nothing, both ways together"


def dark_text(path: Path) -> str:
    """Which port fell silent, and between when and when."""
    dark = path.dark
    if dark is None:
        return ""
    port = "ping" if dark.port == "icmp" else within(dark.port, 20)
    answered, silent = words.utc(dark.answered), words.utc(dark.silent)
    return f"{port} answered at {answered:%H:%M:%S} and was silent when asked again at {silent:%H:%M:%S} UTC."


def _error(error: RouterError) -> str:
    said = within(words.ICMP.get(error.reason, error.reason), 40)
    times = "once" if error.times == 1 else f"{error.times} times"
    return f"{within(error.by, 60)} said “{said}” {times} (ICMP type {error.type}, code {error.code})."


def _hop(hop: Hop) -> str:
    where = f"{within(hop.address, 60)}, {words.count(hop.ttl, 'hop', 'hops')} from the scanner, answered last."
    if hop.reason == _PASSED_ON:
        return f"{where} It passed the packets on and said nothing of the host."
    said = f"{where} It said of the host: “{within(words.ICMP.get(hop.reason, hop.reason), 40)}”."
    return said + (" The address may be wrong, or the device off." if hop.reason in _NOBODY_THERE else "")


def _blind_spots(scan: Scan) -> str:
    """``tcp/25 cannot get out; somebody else answers on tcp/110.``, or nothing."""
    parts = [f"{_listed(scan.vantage.blind)} cannot get out"] * bool(scan.vantage.blind)
    parts += [f"somebody else answers on {_listed(scan.vantage.forged)}"] * bool(scan.vantage.forged)
    return f"{'; '.join(parts)}." if parts else ""


def _confirmed(scan: Scan) -> str:
    present = scan.site.present
    if present is None:
        return ""
    how = f" ({within(present.how, 120)})" if present.how else ""
    return f"{within(present.by)} confirmed on {words.moment(present.on)}{how}"


def _addresses(hosts: Iterable[Host]) -> tuple[str, ...]:
    return tuple(host.address for host in hosts)


def _listed(keys: Sequence[str]) -> str:
    more = len(keys) - _MOST
    return ", ".join(within(key, 45) for key in keys[:_MOST]) + (f" and {more} more" if more > 0 else "")


def _sentence(text: str) -> str:
    text = text.rstrip(".")
    return f"{text[:1].upper()}{text[1:]}." if text else ""
