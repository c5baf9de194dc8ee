"""Practices -> one finding each -> a verdict: the only room that says met or not met.

The wire answers where it can; where it cannot, the operator's declaration does, or nobody. Silence
counts for a site only where somebody is known to be silent. Pure functions: no sockets, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain

from exposure_scan.model import Declarations, Finding, Host, Severity, Site, Status, Vantage, Verdict

from .bulletin import BULLETIN, REVISION, Example, Practice, practices
from .checks import CHECKS
from .look import NAMES, NOBODY, Answer, Look, is_present, listed, presence

_INSIDE = "This was no outside view: the scan ran inside the site's network."

__all__ = [
    "BULLETIN",
    "REVISION",
    "Example",
    "Practice",
    "assess_host",
    "declarations",
    "practices",
    "verdict",
]


def assess_host(host: Host, site: Site, on: datetime) -> tuple[Finding, ...]:
    """One finding for each practice, in the order of the bulletin. `on` decides which words still hold."""
    look = Look(host, site, on)
    found = []
    for practice in practices():
        answer = _judge(practice, look)
        waived = (w for w in site.waivers if w.practice == practice.id and w.until >= on.date())
        found.append(
            Finding(
                practice=practice.id,
                host=host.address,
                status=answer.status,
                severity=practice.severity,
                title=practice.title,
                because=answer.because,
                remedy=practice.remedy,
                confidence=answer.confidence,
                evidence=answer.evidence,
                waived=next(waived, None),
            )
        )
    return tuple(found)


def _judge(practice: Practice, look: Look) -> Answer:
    here = {"all", *(NAMES[cls] for cls in look.claimed)}
    if look.claimed and not here & set(practice.applies_to):
        because = f"It is for: {', '.join(practice.applies_to)}. None was seen or declared here."
        return Answer(Status.NOT_APPLICABLE, because)
    answer = None if practice.check is None else CHECKS[practice.check](look)
    if answer is None:
        unseen = "It cannot be seen from outside."
        seen = "No breach was seen from outside, which does not show that there is none."
        answer = Answer(Status.UNDECLARED, unseen if practice.check is None else seen)
    if answer.status is not Status.UNDECLARED:
        return answer
    word = look.site.declares.get(practice.id)
    if word is None:
        return Answer(Status.UNDECLARED, f"{answer.because} Nobody has declared it.", answer.evidence)
    if word.until is not None and word.until < look.on.date():
        over = f"The word of {word.by}, given on {word.on}, counted until {word.until}. Nobody has declared it since."
        return Answer(Status.UNDECLARED, f"{answer.because} {over}", answer.evidence)
    because = f"{answer.because} Declared by {word.by} on {word.on}{f', until {word.until}' if word.until else ''}."
    return Answer(Status.DECLARED, because, answer.evidence)


def declarations(findings: Iterable[Finding]) -> Declarations:
    """How many of the practices that need the operator's word have it, on every host where they need it."""
    asked = [f for f in findings if f.status in (Status.DECLARED, Status.UNDECLARED)]
    missing = {finding.practice for finding in asked if finding.status is Status.UNDECLARED}
    every = {finding.practice for finding in asked}
    return Declarations(made=len(every - missing), of=len(every))


def verdict(
    hosts: Sequence[Host], findings: Sequence[Finding], site: Site, vantage: Vantage, on: datetime
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict of a scan (design, section 5) and the sentences it rests on, the most important first.

    `on` decides whether a person's word on the presence still counts.
    """
    several = len(hosts) > 1
    weight = {severity: place for place, severity in enumerate(Severity)}
    weighty = sorted(
        (finding for finding in findings if finding.severity in (Severity.CRITICAL, Severity.HIGH)),
        key=lambda finding: weight[finding.severity],
    )

    def said(finding: Finding) -> str:
        return f"{finding.host}: {finding.because}" if several else finding.because

    inside = [] if vantage.outside else [_INSIDE]
    broken = [said(f) for f in weighty if f.status is Status.NOT_MET and f.waived is None]
    if broken:
        return Verdict.NO_GO, _once(broken, inside, _waived(findings))
    doubts = [
        *_missing(hosts, site, on),
        *map(_dark, filter(lambda host: host.path.dark is not None, hosts)),
        *(said(f) for f in weighty if f.status is Status.CANNOT_TELL and f.because != NOBODY),
    ]
    undeclared = _once(f.practice for f in findings if f.status is Status.UNDECLARED)
    if site.require_declarations and undeclared:
        doubts.append(f"Declarations are required and missing: {listed(undeclared)}.")
    if inside or doubts:
        return Verdict.INCONCLUSIVE, _once(inside, doubts, _waived(findings))
    return Verdict.GO, _once(_rests_on(hosts, findings, site, vantage), _waived(findings))


def _once(*groups: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain(*groups)))


def _missing(hosts: Sequence[Host], site: Site, on: datetime) -> list[str]:
    """The hosts of which nobody knows that they are there at all."""
    if not hosts:
        return ["No address was scanned."]
    if is_present(site, on):
        return []
    old = ""
    if site.present is not None:
        old = f" The word of {site.present.by} counted until {site.present.ends:%Y-%m-%d %H:%M} UTC."
    return [
        f"Nothing at {host.address} has answered, so silence proves nothing: the line may be down or the "
        f"address wrong. A person on the spot can confirm that the live site is there.{old}"
        for host in hosts
        if not host.alive.proven
    ]


def _dark(host: Host) -> str:
    dark = host.path.dark
    assert dark is not None
    return (
        f"{host.address} answered on {dark.port} and was silent there at {dark.silent:%H:%M:%S} UTC: "
        "something has begun to block this scan, so later silence shows nothing. Let the firewall allow the "
        "scanner's address, and repeat."
    )


def _waived(findings: Iterable[Finding]) -> list[str]:
    return [
        f"{finding.practice} is not met on {finding.host}, and is accepted until {finding.waived.until} "
        f"by {finding.waived.by}: {finding.waived.because}"
        for finding in findings
        if finding.status is Status.NOT_MET and finding.waived is not None
    ]


def _rests_on(hosts: Sequence[Host], findings: Sequence[Finding], site: Site, vantage: Vantage) -> Iterable[str]:
    """What a go rests on. It describes one moment and promises nothing."""
    count = declarations(findings)
    beyond = ", beyond what was accepted" if _waived(findings) else ""
    yield f"Seen from outside at this time, no breach of a critical or high practice showed{beyond}."
    for host in hosts:
        yield f"{host.address}: {host.alive.by}." if host.alive.proven else presence(site)
    yield (
        f"{count.of} practices rest on the operator's word: {count.made} declared, "
        f"{count.of - count.made} not declared by anyone."
    )
    lesser = _once(f.practice for f in findings if f.status is Status.NOT_MET and f.waived is None)
    if lesser:
        yield f"Not met, of lesser severity: {listed(lesser)}."
    if not any(host.alive.proven or host.path.last_hop or host.path.errors for host in hosts):
        yield "Nothing came back from anywhere, so nothing has shown that the scanner's own line was up."
    if not vantage.checked:
        yield "Nobody has checked that the scanner's own network lets these questions out."
