"""Our ports held against Nmap's: the same, compatible, or different, and who is right. Pure functions.

Nothing here changes what we saw. But where Nmap found a port open that we did not, `contradicted` says so, and
no GO may stand on it in silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from exposure_scan.model import Host, Opinion, Port, PortState, SecondOpinion

from .said import Seen, record, seen
from .values import NmapHost

Agreement: TypeAlias = Literal["same", "compatible", "differs", "not-compared"]


_WORDS = {"same": "the same", "compatible": "compatible", "differs": "DIFFERS", "not-compared": "not compared"}


def compared(ours: Host, theirs: NmapHost | None) -> tuple[Opinion, ...]:
    """One row for each port that we asked, in our order."""
    return tuple(_row(ours, port, theirs) for port in ours.ports)


def _row(host: Host, port: Port, theirs: NmapHost | None) -> Opinion:
    found = None if theirs is None else theirs.port(port.transport, port.port)
    if found is None:
        return _opinion(host, port, None, "not-compared", "Nmap was not asked, or tells nothing of it.")
    saw = seen(port.transport, host.address, record(found))
    agreement, because = _judged(host, port, saw)
    return _opinion(host, port, saw, agreement, because)


def _opinion(host: Host, port: Port, saw: Seen | None, agreement: Agreement, because: str) -> Opinion:
    return Opinion(
        host=host.address,
        port=port.key,
        ours=port.state,
        theirs=PortState.UNMEASURED if saw is None else PortState(saw.state),
        reason="not-asked" if saw is None else saw.reason,
        agreement=agreement,
        because=because,
    )


def _judged(host: Host, port: Port, saw: Seen) -> tuple[Agreement, str]:
    theirs = PortState(saw.state)
    if theirs is PortState.OPEN and port.state is not PortState.OPEN:
        return _only_theirs(port)
    if theirs is PortState.UNMEASURED:
        return "not-compared", "Nmap could not tell, so there is nothing to compare."
    if port.state is PortState.UNMEASURED:
        return "not-compared", f"We did not measure it ({port.reason}), so there is nothing to compare."
    if theirs is port.state:
        return "same", ""
    if port.state is PortState.OPEN:
        return _only_ours(host, port, theirs)
    return "compatible", _neither_open(port, saw)


def _only_theirs(port: Port) -> tuple[Agreement, str]:
    heard = "had its connection accepted" if port.transport == "tcp" else "had an answer"
    we = "did not measure it" if port.state is PortState.UNMEASURED else f"found it {port.state}"
    return "differs", (
        f"Nmap {heard}, and we {we}. An answer is stronger than none, so Nmap may be right: the port opened in the "
        "meantime, or packets of ours were lost or blocked. Scan again."
    )


def _only_ours(host: Host, port: Port, theirs: PortState) -> tuple[Agreement, str]:
    if port.transport == "udp":
        if theirs is PortState.OPEN_FILTERED:
            what = port.service.upper() if port.service else "what is there"
            return "compatible", (
                f"Nmap sent an empty datagram and heard nothing; {what} answers only its own words. "
                "Ours rests on a reply."
            )
        return "differs", (
            "We had a reply, Nmap heard that the port is shut: it was shut in the meantime, or something on the way "
            "began to refuse. Ours rests on a reply. Scan again."
        )
    if port.key in host.path.blurred and port.service is None and port.banner is None:
        return "differs", (
            "Something on the way completes handshakes in place of the host, not for everybody alike. Neither shows "
            "what is behind it."
        )
    shown = "on words that it said" if port.service or port.banner else "on a connection that was accepted"
    return "differs", (
        f"Ours rests {shown}. Nmap came later and got none: the port was shut in the meantime, or something on the "
        "way began to block. Scan again."
    )


def _neither_open(port: Port, saw: Seen) -> str:
    pair = {port.state, PortState(saw.state)}
    if PortState.CLOSED in pair:
        who = "We" if port.state is PortState.CLOSED else "Nmap"
        if port.transport == "udp":
            return (
                f"{who} heard that the port is closed (ICMP), the other heard nothing. Hosts ration these errors "
                "(RFC 1812, section 4.3.2.8). Who heard it is right: it is closed."
            )
        return (
            f"{who} heard that the port is closed, the other heard nothing: a packet was lost, or something on the "
            "way began to drop. Who heard it is right; neither found it open."
        )
    return "One heard a router refuse, the other heard nothing. Neither found it open; the refusal is the surer word."


def contradicted(opinion: SecondOpinion | None) -> tuple[str, ...]:
    """The ports that Nmap found open and we did not, a sentence a host; empty where there are none.

    With such a sentence a GO cannot stand: it makes the verdict inconclusive.
    """
    if opinion is None:
        return ()
    found: dict[str, list[str]] = {}
    for row in opinion.ports:
        if row.theirs is PortState.OPEN and row.ours is not PortState.OPEN:
            found.setdefault(row.host, []).append(row.port)
    return tuple(
        f"{opinion.by} found open at {host} what this scan did not: {', '.join(ports[:8])}"
        f"{f' and {len(ports) - 8} more' if len(ports) > 8 else ''}. Scan again."
        for host, ports in found.items()
    )


def row_lines(rows: Iterable[Opinion]) -> tuple[str, ...]:
    """The rows as lines of text; those that are the same are only counted."""
    rows = tuple(rows)
    same = sum(row.agreement == "same" for row in rows)
    lines = [f"{same} of {len(rows)} ports: the same."]
    lines += [
        f"{row.host} {row.port}: ours {row.ours}, theirs {row.theirs} ({row.reason}): {_WORDS[row.agreement]}. "
        f"{row.because}"
        for row in rows
        if row.agreement != "same"
    ]
    return tuple(lines)
