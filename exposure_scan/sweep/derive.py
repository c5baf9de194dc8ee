"""The same findings once more, offline: a scan as it comes out of its own evidence, and the differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from exposure_scan import classify, plan, protocols
from exposure_scan.conversation import Caller, Event, Exchange, Observation, ReplayError, events_of, replay
from exposure_scan.model import Echo, Evidence, Host, Pack, PortState, Question, Scan, Swept

from . import second
from .hosts import FIRST_HOP_PORT, Asked, host_of, judge, packs_of
from .knocks import repeated

_OVERHEARD, _IMPORTED = "overheard", "nmap"  # probes of evidence that others made; read by modules that few scans need
_MOST_TOLD = 60  # characters of a text of ports


def rederive(scan: Scan, caller: Caller, newer: Iterable[Pack] = ()) -> Scan:
    """The scan as it comes out of its evidence, through the same conversations and today's rules.

    Args:
        scan: the saved scan; the fingerprint packs that it keeps are used again.
        caller: who asked.
        newer: more packs, which take the place of kept ones of the same name.

    Raises:
        ReplayError: a record does not fit its conversation.
        ValueError: the evidence is damaged, or of another address than the scan's hosts.
        Problem: a fingerprint pack that the scan keeps is none.
    """
    asked: dict[str, list[Asked]] = {host.address: [] for host in scan.hosts}
    for proof in scan.evidence:
        if proof.address not in asked:
            raise ValueError(f"evidence {proof.id} is of {proof.address}, which is no host of this scan")
        asked[proof.address].append(Asked(_repeat(proof, caller), proof))
    packs = {pack.name: pack.text for pack in (*scan.packs, *newer)}
    known = classify.known_with((f"the kept pack {name}", text) for name, text in packs.items())
    hosts = tuple(host_of(host.address, host.names, asked[host.address], scan.site, known) for host in scan.hosts)
    spoke = packs_of(hosts, known)
    made = {"hosts": hosts, "packs": spoke, **judge(hosts, scan.site, scan.vantage, scan.started)}
    return second.weighed(scan.model_copy(update=made))


def _repeat(proof: Evidence, caller: Caller) -> Exchange:
    """The exchange that the evidence keeps; its words are derived, and its state is held against them."""
    if proof.purpose == "sweep":
        return repeated(proof)
    if proof.probe == _OVERHEARD:
        from . import overhearing

        return overhearing.again(proof)
    if proof.probe == _IMPORTED:
        from . import imported

        return imported.repeated(proof)
    events = events_of(proof)
    question = Question(proof.kind, proof.port, proof.probe)
    if str(question) == str(plan.CANARY):
        question = plan.CANARY
    if proof.purpose == "path":
        question = Question(proof.kind, proof.port, proof.probe, ttl=proof.port - FIRST_HOP_PORT + 1)
    observation = Observation()
    if events:  # else a fault of ours, or a port that could not be asked: nothing to repeat
        try:
            observation = replay(
                protocols.conversation(proof.probe, proof.token, caller), events, datagrams=proof.kind != "tcp"
            )
        except KeyError:
            raise ReplayError(f"evidence {proof.id}: there is no probe {proof.probe!r}") from None
    shown = _echo_state if proof.kind == "icmp" else _port_state
    state, reason, by = shown(proof, events, observation)
    return Exchange(question, state, reason, by, proof.tries, proof.rtt_ms, observation, proof.at, tuple(events))


def _echo_state(proof: Evidence, events: Sequence[Event], observation: Observation) -> tuple[Echo, str, str | None]:
    if observation.valid:
        return Echo.REPLIED, "echo-reply", proof.address
    if not events and proof.state == Echo.REPLIED:
        return Echo.REPLIED, "echo-reply", proof.address  # the system's ping tells no bytes
    if proof.state == Echo.REPLIED:
        return Echo.UNMEASURED, "the record shows no answer", None
    return Echo(proof.state), proof.reason, proof.by


def _port_state(
    proof: Evidence, events: Sequence[Event], observation: Observation
) -> tuple[PortState, str, str | None]:
    """The state that the record shows; where it shows none, what was written down."""
    if proof.purpose == "unheard":
        return PortState.UNMEASURED, proof.reason, None  # whatever came, it shows nothing
    first = next((event for event in events if event.what in ("connected", "not-connected")), None)
    if proof.kind == "tcp" and first is not None and first.what == "connected":
        return PortState.OPEN, "syn-ack", proof.address
    if proof.kind == "udp" and (observation.answered or observation.valid):
        return PortState.OPEN, "udp-reply", proof.address
    state = PortState(proof.state)
    if state is PortState.OPEN:
        return PortState.UNMEASURED, "the record shows no answer", None
    if proof.kind == "tcp" and first is not None and first.detail != proof.reason:
        return state, first.detail, proof.by
    return state, proof.reason, proof.by


def differences(scan: Scan, derived: Scan) -> list[str]:
    """What the saved scan says otherwise than its evidence, one sentence each; empty when they agree."""
    found = []
    if scan.verdict != derived.verdict:
        found.append(f"The verdict is saved as {scan.verdict}; the evidence gives {derived.verdict}.")
    for saved, made in zip(scan.hosts, derived.hosts, strict=True):
        found += _host_differences(saved, made)
    fresh = {(finding.practice, finding.host): finding for finding in derived.findings}
    for finding in scan.findings:
        other = fresh.pop((finding.practice, finding.host), None)
        if other is None:
            found.append(f"{finding.practice} on {finding.host} is saved; the rules have no such practice.")
        elif other.status != finding.status:
            found.append(f"{finding.practice} on {finding.host} is saved as {finding.status}, not {other.status}.")
        elif other != finding:
            found.append(f"{finding.practice} on {finding.host} is worded otherwise than the evidence gives.")
    found += [f"{practice} on {host} is missing from the saved scan." for practice, host in fresh]
    if scan.packs != derived.packs:
        found.append("The fingerprint packs are kept otherwise than the evidence uses them.")
    if not found and scan != derived:
        found.append("The reasons or the declarations are saved otherwise than the evidence gives.")
    return found


def _host_differences(saved: Host, made: Host) -> list[str]:
    found = []
    if saved.device.class_ != made.device.class_:
        found.append(f"{saved.address} is saved as {saved.device.class_}, not {made.device.class_}.")
    ports = {port.key: port for port in made.ports}
    for port in saved.ports:
        other = ports.pop(port.key, None)
        if other is None:
            found.append(f"{saved.address} {port.key} is saved without evidence.")
        elif other != port:
            found.append(f"{saved.address} {port.key} is saved otherwise than its evidence gives.")
    found += [f"{saved.address} {key} has evidence and is missing from the saved scan." for key in ports]
    found += [f"{_group(saved, group)} saved without evidence." for group in saved.swept if group not in made.swept]
    found += [
        f"{_group(saved, group)} missing from the saved scan." for group in made.swept if group not in saved.swept
    ]
    if not found and saved != made:
        found.append(f"{saved.address} is saved otherwise than its evidence gives.")
    return found


def _group(host: Host, group: Swept) -> str:
    ports = group.ports if len(group.ports) <= _MOST_TOLD else f"{group.ports[:_MOST_TOLD]}…"
    return f"{host.address}: that the sweep found TCP ports {ports} {group.state} ({group.reason}) is"
