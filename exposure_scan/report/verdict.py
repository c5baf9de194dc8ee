"""What the verdict means for the reader, and what to do next, the most urgent first.

A GO says what it rests on and never sounds like a guarantee; an INCONCLUSIVE never sounds like one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from exposure_scan.model import Finding, Scan, Severity, Status, Verdict

from . import words
from .again import check_again, command, record
from .doubt import Doubt, doubts, silent_hosts
from .words import Mark, PracticeText

MOST_STEPS = 5
_MOST_REASONS = 4
_WEIGHTY = (Severity.CRITICAL, Severity.HIGH)


@dataclass(frozen=True, slots=True)
class Box:
    """The verdict and the four things that its reader must know. `cautions` stand with it, always."""

    mark: Mark
    why: str
    cost: str
    who: str
    do: str
    reasons_title: str
    reasons: tuple[str, ...]
    more_reasons: tuple[str, ...]
    cautions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. `order` is the short form for a terminal.

    `menu_path`, `check` (the command that looks at this again) and `record` (the line of the sites file) may be empty.
    """

    label: str
    order: str
    mark: Mark
    title: str
    what: str
    why: str
    menu_path: str
    check: str
    record: str
    hosts: tuple[str, ...]


def box(scan: Scan) -> Box:
    """The verdict box of a scan."""
    partner = scan.partner.get("name")
    fixer = f"{partner}, together with whoever runs the firewall." if partner else (
        "Your phone system partner, together with whoever runs the firewall."
    )  # fmt: skip
    if scan.verdict is Verdict.NO_GO:
        why, title = _broken_sentence(scan), "What was found"
        cost = (
            "Attackers search the Internet for phone systems that answer. "
            "Taken-over phones make calls that you pay for."
        )
        do = "Do not go live like this. Have the steps below done, then have it scanned again."
    elif scan.verdict is Verdict.INCONCLUSIVE:
        why, title = _doubt_sentence(scan), "What could not be settled"
        cost = "This is no bad news, and no all-clear. What was not seen may still be open."
        do = "Treat the site as unchecked. Clear up the steps below, then have it scanned again."
    else:
        why, title = _clear_sentence(scan), "What this rests on"
        cost = "A GO describes one moment. A later change of the firewall or the phone system can open a door."
        who = partner or "Your phone system partner"
        fixer = f"Nothing seen blocks going live. {who} looks after what is left below."
        do = "Keep this report. Have it scanned again after each change, and regularly."
    because = tuple(dict.fromkeys(scan.because))
    return Box(
        mark=words.VERDICTS[scan.verdict],
        why=why,
        cost=cost,
        who=fixer,
        do=do,
        reasons_title=title,
        reasons=because[:_MOST_REASONS],
        more_reasons=because[_MOST_REASONS:],
        cautions=tuple(doubt.caution for doubt in doubts(scan) if doubt.caution),
    )


def _practices(findings: list[Finding]) -> int:
    return len({finding.practice for finding in findings})


def _broken_sentence(scan: Scan) -> str:
    broken = [f for f in scan.findings if f.status is Status.NOT_MET and f.severity in _WEIGHTY and not f.waived]
    number = words.count(_practices(broken), "important security practice is", "important security practices are")
    return f"{number} broken, as seen from {'outside' if scan.vantage.outside else 'inside'}."


def _doubt_sentence(scan: Scan) -> str:
    silent = silent_hosts(scan)
    doubtful = [f for f in scan.findings if f.status is Status.CANNOT_TELL and f.severity in _WEIGHTY]
    if not scan.vantage.outside:
        return "This scan ran inside the site's network, so it cannot say what the Internet sees."
    if silent and len(scan.hosts) == 1:
        return "Nothing at this address answered, and silence alone proves nothing."
    if silent:
        return f"Nothing answered at {len(silent)} of {len(scan.hosts)} addresses, and silence proves nothing."
    if any(host.path.dark for host in scan.hosts):
        return "Something began to block the scanner while it was asking."
    if doubtful:
        number = words.count(_practices(doubtful), "important security practice", "important security practices")
        return f"{number} could not be judged from what the network showed."
    if scan.site.require_declarations and any(f.status is Status.UNDECLARED for f in scan.findings):
        return "Nothing broken was seen, but required declarations are missing."
    return "Not enough could be measured to say GO or NO-GO."


def _clear_sentence(scan: Scan) -> str:
    waived = [f for f in scan.findings if f.status is Status.NOT_MET and f.severity in _WEIGHTY and f.waived]
    if waived:
        number = "one" if _practices(waived) == 1 else str(_practices(waived))
        return f"Seen from outside, no important practice is broken, apart from {number} that somebody accepted."
    return "At the time of the scan, nothing seen from outside broke an important practice."


# --- what to do ----------------------------------------------------------------------------------

_KINDS: Mapping[Status, tuple[str, str]] = MappingProxyType(
    {
        Status.NOT_MET: ("Not met: fix it", "Fix"),
        Status.CANNOT_TELL: ("Cannot tell: clear it up", "Clear up"),
        Status.UNDECLARED: ("Undeclared: check it and record who says so", "Check and record"),
    }
)
# The order of doing, (status, weighty): mend what is broken, settle what is in doubt, vouch for the unseen.
_ORDER = (
    (Status.NOT_MET, True),
    (Status.CANNOT_TELL, True),
    (Status.NOT_MET, False),
    (Status.UNDECLARED, True),
    (Status.CANNOT_TELL, False),
    (Status.UNDECLARED, False),
)


def steps(scan: Scan, texts: Mapping[str, PracticeText]) -> tuple[tuple[Step, ...], int]:
    """At most five things to do, and how many more there are."""
    silent = silent_hosts(scan)
    # what shows that a port went dark, and no port's state rests on
    last_look = {proof.id for proof in scan.evidence if proof.purpose in ("loss", "still-there")}
    weights = list(Severity)
    found: list[Step] = []
    for status, weighty in _ORDER:
        if (status, weighty) == (Status.CANNOT_TELL, True):
            found += [_cure(doubt, scan) for doubt in doubts(scan) if doubt.title]
        practices: dict[str, list[Finding]] = {}
        for finding in scan.findings:
            # silence, and a block that began meanwhile, are one cause of many doubts and have a step of their own
            caused = finding.host in silent or not last_look.isdisjoint(finding.evidence)
            settled = status is Status.CANNOT_TELL and caused
            wanted = finding.status is status and (finding.severity in _WEIGHTY) is weighty
            if wanted and finding.waived is None and not settled:
                practices.setdefault(finding.practice, []).append(finding)
        for members in sorted(practices.values(), key=lambda group: weights.index(group[0].severity)):
            found.append(_step(members, texts.get(members[0].practice), scan))
    return tuple(found[:MOST_STEPS]), max(len(found) - MOST_STEPS, 0)


def _step(members: list[Finding], text: PracticeText | None, scan: Scan) -> Step:
    first = members[0]
    label, verb = _KINDS[first.status]
    condition = "If this does not hold yet: " if first.status is Status.UNDECLARED else ""
    return Step(
        label=label,
        order=f"{verb} {first.practice}",
        mark=words.STATUSES[first.status],
        title=first.title,
        what=condition + first.remedy,
        why=text.why if text else first.because,
        menu_path=text.menu_path if text else "",
        check=check_again(members, scan),
        record=record(first, scan),
        hosts=tuple(finding.host for finding in members) if len(scan.hosts) > 1 else (),
    )


def _cure(doubt: Doubt, scan: Scan) -> Step:
    return Step(
        label=_KINDS[Status.CANNOT_TELL][0],
        order=doubt.title,
        mark=words.STATUSES[Status.CANNOT_TELL],
        title=doubt.title,
        what=doubt.what,
        why=doubt.why,
        menu_path="",
        check=command(scan, doubt.hosts or [host.address for host in scan.hosts]),
        record="",
        hosts=doubt.hosts if len(scan.hosts) > 1 else (),
    )
