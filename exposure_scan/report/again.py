"""How one thing is checked again: the command for what a scan can see, the line to record for what it cannot."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from exposure_scan.model import Finding, Scan, Status
from exposure_scan.model.text import within

_MOST_PORTS = 12
_MOST_HOSTS = 4
_ID = re.compile(r"[a-z0-9.-]{1,60}")


def check_again(findings: Sequence[Finding], scan: Scan) -> str:
    """The command that asks only what these findings rest on; empty where no scan can settle them.

    A site of the sites file is asked for by its name, so that its consent, declarations and waivers hold.
    """
    if all(finding.status is Status.UNDECLARED for finding in findings):
        return ""
    return command(scan, (finding.host for finding in findings), _ports(findings, scan))


def command(scan: Scan, hosts: Iterable[str], ports: Sequence[str] = ()) -> str:
    """The command that scans these hosts of the scan's site again; all its usual ports without `ports`."""
    words = ["exposure-scan", "scan"]
    if scan.site.name in scan.site.targets:
        words += [within(host, 60) for host in list(dict.fromkeys(hosts))[:_MOST_HOSTS]]
        words += ["--authorized-by", within(scan.authorization.by, 60)]
    else:
        words += ["--site", within(scan.site.name, 60), "--sites", "sites.toml"]
    if ports and len(ports) <= _MOST_PORTS:
        words += ["--ports", ",".join(ports)]
    return shlex.join(words)


def record(finding: Finding, scan: Scan) -> str:
    """The line under ``[site.declares]`` of the sites file that vouches for a practice; empty where a scan decides."""
    if finding.status is not Status.UNDECLARED or not _ID.fullmatch(finding.practice):
        return ""  # what is no practice's id cannot be declared, and a saved scan may hold anything
    return f'"{finding.practice}" = {{ by = "YOUR NAME", on = {scan.started:%Y-%m-%d} }}'


def _ports(findings: Iterable[Finding], scan: Scan) -> list[str]:
    """The ports that the evidence of these findings is about."""
    cited = {id_ for finding in findings for id_ in finding.evidence}
    found = (
        f"{proof.kind}/{proof.port}"
        for proof in scan.evidence
        if proof.id in cited and proof.kind in ("tcp", "udp") and not proof.ports and proof.purpose in ("ask", "again")
    )
    return list(dict.fromkeys(found))
