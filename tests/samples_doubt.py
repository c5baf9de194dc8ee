"""Scans made by hand in which something keeps silence from being safety. Everything in them is synthetic."""

from __future__ import annotations

from datetime import timedelta

from samples import AT, ROWS, findings, host, port, scan, silent_with_presence

from exposure_scan.model import (
    Alive,
    Dark,
    Echo,
    Evidence,
    Hop,
    Path,
    PortState,
    RouterError,
    Scan,
    Status,
    Step,
    Vantage,
    Verdict,
)

ANSWERED = Alive(proven=True, by="udp/5060 answered")
SIP = port("udp", 5060, PortState.OPEN, service="sip", banner="SIP/2.0 200 OK")


def lossy_path() -> Scan:
    """A line that loses an eighth of the packets, and a scanner that was late itself: inconclusive."""
    address = "198.51.100.70"
    thin = {"server.admin-page-hidden": 0.97, "server.stealth": 0.9995, "server.unused-services-off": 1.0}
    statuses = {"server.voicemail-ports-moved": Status.CANNOT_TELL}
    found = [
        one.model_copy(update={"confidence": thin.get(one.practice), "evidence": ("e8080", "e5060")})
        for one in findings(address, statuses)
    ]
    seen = host(address, changed=(SIP,), alive=ANSWERED, path=Path(loss=0.125, samples=88))
    because = "tcp/143 was silent, but was not asked often enough to count as shut."
    return scan((seen,), found, Verdict.INCONCLUSIVE, because, lag_ms=342.7)


def helper_on_the_way() -> Scan:
    """A firewall's SIP helper completes handshakes for an address where nobody is: inconclusive."""
    address = "198.51.100.71"
    way = Path(
        middlebox="the handshake is completed even on tcp/2000, which nobody serves",
        blurred=("tcp/2000", "tcp/5060"),
        last_hop=Hop(ttl=1, address="198.51.100.2", reason="icmp-time-exceeded", evidence=("e41",)),
    )
    changed = (
        port("tcp", 5060, PortState.OPEN, notes=("The handshake came back with another TTL than the others'.",)),
        port("tcp", 2000, PortState.OPEN),
    )
    statuses = {id_: Status.CANNOT_TELL for id_, _, _, known, _ in ROWS if known == "observed"}
    because = f"Nothing at {address} has answered: the line may be down or the address wrong."
    seen = host(address, changed=changed, path=way)
    return scan((seen,), findings(address, statuses), Verdict.INCONCLUSIVE, because)


def went_dark() -> Scan:
    """Something began to block the scanner: inconclusive."""
    address = "198.51.100.72"
    last = Evidence(
        id="e90",
        kind="tcp",
        at=AT + timedelta(seconds=9),
        address=address,
        port=443,
        probe="https",
        purpose="still-there",
        token="00",
        state="filtered",
        reason="no-response",
        tries=3,
        sent="",
        received="",
        steps=(Step(ms=1400, what="not-connected", detail="no-response"),),
    )
    first = last.model_copy(update={"id": "e443", "at": AT + timedelta(seconds=1), "purpose": "ask", "state": "open"})
    dark = Dark(port="tcp/443", answered=first.at, silent=last.at, evidence=("e443", "e90"))
    prohibited = RouterError(by="198.51.100.3", type=3, code=13, reason="icmp-admin-prohibited", times=1)
    open_ = port("tcp", 443, PortState.OPEN, service="https", banner="synthetic web server")
    statuses = {id_: Status.CANNOT_TELL for id_, _, _, known, _ in ROWS if known == "observed"}
    cites = {"software.supported": ("e443",)}
    found = [
        one.model_copy(update={"evidence": cites.get(one.practice, ("e90",))}) for one in findings(address, statuses)
    ]
    seen = host(
        address,
        changed=(open_,),
        alive=Alive(proven=True, by="tcp/443 accepted a connection"),
        echo=Echo.UNMEASURED,
        path=Path(loss=0.0, samples=31, dark=dark, errors=(prohibited,)),
    )
    because = "tcp/443 answered at first and was silent at the end: something began to block the scanner."
    return scan((seen,), found, Verdict.INCONCLUSIVE, because, evidence=(first, last))


def blind_vantage() -> Scan:
    """The scanner's own network lets tcp/25 not out, and answers itself on tcp/110: inconclusive."""
    address = "198.51.100.73"
    changed = (
        SIP,
        port("tcp", 25, PortState.UNMEASURED, reason="vantage-blind", tries=0),
        port("tcp", 110, PortState.UNMEASURED, reason="vantage-forged", tries=0),
    )
    statuses = {"server.voicemail-ports-moved": Status.CANNOT_TELL}
    vantage = Vantage(
        name="sample office", checked=True, on=AT - timedelta(days=3), blind=("tcp/25",), forged=("tcp/110",)
    )
    because = "Not measured: tcp/25. Nothing is known of that."
    seen = host(address, changed=changed, alive=ANSWERED)
    return scan((seen,), findings(address, statuses), Verdict.INCONCLUSIVE, because, vantage=vantage)


def expired_presence() -> Scan:
    """Nothing answers, and the word of the person who confirmed the site is too old: inconclusive."""
    made = silent_with_presence()
    old = made.started - timedelta(days=2)
    present = made.site.present
    assert present is not None
    return made.model_copy(
        update={
            "verdict": Verdict.INCONCLUSIVE,
            "because": ("Nothing at 198.51.100.45 has answered, so silence proves nothing.",),
            "site": made.site.model_copy(update={"present": present.model_copy(update={"on": old})}),
            "vantage": Vantage(name="unchecked sample"),
        }
    )


ALL = (lossy_path, helper_on_the_way, went_dark, blind_vantage, expired_presence)
