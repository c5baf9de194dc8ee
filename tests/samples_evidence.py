"""Samples of what a device rests on: packs, heuristics, what speaks against, a sweep, and the bytes of it all."""

from __future__ import annotations

from datetime import timedelta

import samples

from exposure_scan.model import (
    Alive,
    DeviceClass,
    Echo,
    Evidence,
    Pack,
    PortState,
    Scan,
    Status,
    Step,
    Support,
    Swept,
    Tls,
    Verdict,
)

ADDRESS = "198.51.100.60"
ORIGIN = "sample technician's bench unit, 2026-10-01"
PACK = Pack(name="bench-px", origin=ORIGIN, sha256="0123456789abcdef" * 4, text="")
TITLE = "Synthetic Expander Status"
BANNER = "220 mail.sample.example ESMTP Postfix"
FOR = Support(
    fingerprint="learnt-http-title",
    says=DeviceClass.PX,
    confidence=0.8,
    field="http.title",
    value=TITLE,
    source="learnt from a unit of one's own",
    pack=PACK.name,
    port="tcp/80",
    evidence=("e2",),
)
GUESS = Support(
    fingerprint="sip-server-name",
    says=DeviceClass.ALLWORX,
    confidence=0.6,
    field="sip.server",
    value="synthetic allworx-like name",
    source="a rule of thumb",
    heuristic=True,
    port="udp/5060",
    evidence=("e3",),
)
AGAINST = Support(
    fingerprint="smtp-postfix",
    says=DeviceClass.OTHER,
    confidence=0.95,
    field="smtp.greeting",
    value=BANNER,
    source="observed: postfix of Debian 12",
    port="tcp/25",
    evidence=("e1",),
)


def proof(number: int, kind: str, port: int, probe: str, sent: str, received: str, **more: object) -> Evidence:
    """A piece of evidence that was answered."""
    values: dict[str, object] = {
        "id": f"e{number}",
        "kind": kind,
        "at": samples.AT + timedelta(milliseconds=120 * number),
        "address": ADDRESS,
        "port": port,
        "probe": probe,
        "token": "00",
        "state": "open",
        "reason": "syn-ack" if kind == "tcp" else "udp-reply",
        "by": ADDRESS,
        "tries": 1,
        "rtt_ms": 9.5,
        "sent": sent,
        "received": received,
        "steps": (Step(ms=0, what="sent", size=len(sent)), Step(ms=9.5, what="received", size=len(received))),
    }
    return Evidence.model_validate(values | more)


def disputed_device() -> Scan:
    """A pack and a heuristic speak for the vendor, a Postfix against it; all other TCP ports were swept."""
    page = "HTTP/1.0 200 OK\\r\\n" + "X-Padding: synthetic\\r\\n" * 40 + f"\\r\\n<title>{TITLE}</title>"
    tls = Tls(
        version="TLSv1",
        cipher="SYNTHETIC-CIPHER",
        subject="CN=mail.sample.example",
        issuer="CN=Synthetic CA",
        names=("mail.sample.example", "imap.sample.example"),
        not_before=samples.AT - timedelta(days=400),
        not_after=samples.AT - timedelta(days=35),
    )
    postfix = samples.device(DeviceClass.OTHER, 0.95, support=(AGAINST,))
    changed = (
        samples.port(
            "tcp",
            25,
            PortState.OPEN,
            service="smtp",
            banner=BANNER,
            product="Postfix",
            device=postfix,
            tls=tls,
            notes=("The certificate expired on 2026-09-29.",),
            evidence=("e1",),
        ),
        samples.port(
            "tcp",
            80,
            PortState.OPEN,
            service="http",
            device=samples.device(DeviceClass.PX, 0.8, support=(FOR,)),
            evidence=("e2",),
        ),
        samples.port("udp", 5060, PortState.OPEN, service="sip", banner="SIP/2.0 200 OK", evidence=("e3",)),
        samples.port("tcp", 5061, PortState.OPEN, evidence=("e4",)),
    )
    closed = Swept(
        state=PortState.CLOSED,
        reason="rst",
        by=ADDRESS,
        tries=1,
        number=64_000,
        ports="100-64099",
        confidence=1.0,
        evidence=("e5",),
    )
    unreached = Swept(
        state=PortState.UNMEASURED, reason="went-dark", number=1_400, ports="64100-65499", evidence=("e6",)
    )
    seen = samples.host(
        ADDRESS,
        changed=changed,
        alive=Alive(proven=True, by="udp/5060 answered"),
        echo=Echo.SILENT,
        device=samples.device(DeviceClass.PX, 0.8, support=(FOR,), evidence=("e2",)),
        also=(samples.device(DeviceClass.UNKNOWN, 0.0, support=(GUESS,), against=(AGAINST,)),),
        swept=(closed, unreached),
    )
    found = samples.findings(ADDRESS, {"sip.not-reachable": Status.NOT_MET})
    found = [
        one.model_copy(update={"evidence": ("e3",) if one.practice.startswith("sip") else ("e4", "e99", "e5")})
        for one in found
    ]
    refused = (Step(ms=0, what="sent", size=7), Step(ms=4, what="not-secured", detail="UNSUPPORTED_PROTOCOL"))
    return samples.scan(
        (seen,),
        found,
        Verdict.NO_GO,
        'SIP can be reached from outside: udp/5060 said "SIP/2.0 200 OK".',
        packs=(PACK,),
        evidence=(
            proof(1, "tcp", 25, "greeting", "EHLO scanner.sample.example\\r\\n", BANNER + "\\r\\n"),
            proof(2, "tcp", 80, "http", "GET / HTTP/1.0\\r\\n\\r\\n", page),
            proof(3, "udp", 5060, "sip-udp", "OPTIONS sip:198.51.100.60 SIP/2.0\\r\\n", "SIP/2.0 200 OK\\r\\n"),
            proof(4, "tcp", 5061, "tls-sip", "", "", steps=refused),
            proof(5, "tcp", 0, "knock", "", "", purpose="sweep", ports="100-64099", state="closed", reason="rst"),
        ),
    )


ALL = (disputed_device,)
