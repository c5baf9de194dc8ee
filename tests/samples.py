"""Scans made by hand for the tests of the report. Every banner is synthetic."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Literal

from exposure_scan.model import (
    Alive,
    Authorization,
    Dark,
    Declaration,
    Declarations,
    Device,
    DeviceClass,
    Echo,
    Evidence,
    Finding,
    Hop,
    Host,
    Path,
    Port,
    PortState,
    Presence,
    RouterError,
    Scan,
    Scanner,
    Severity,
    Site,
    Status,
    Step,
    Support,
    Tls,
    Vantage,
    Verdict,
    Waiver,
)
from exposure_scan.report import PracticeText

AT = datetime(2026, 11, 3, 14, 5, tzinfo=UTC)
TCP = (21, 22, 23, 25, 53, 80, 110, 143, 443, 465, 587, 993, 995, 1723, 3389, 5060, 5061, 8080, 8081, 8443)
UDP = (53, 69, 123, 161, 500, 1701, 2088, 4500, 5060, 5061)

# id, title, severity, known, menu path: the rows of the design, worded for the tests
ROWS: tuple[tuple[str, str, Severity, str, str], ...] = (
    ("sip.not-reachable", "SIP cannot be reached from outside", Severity.CRITICAL, "observed", ""),
    ("password.admin", "The admin password is strong", Severity.CRITICAL, "declared", "Business > Users"),
    ("password.users", "User passwords are strong", Severity.HIGH, "declared", "Business > Users"),
    (
        "password.require-change",
        "Users must change passwords",
        Severity.MEDIUM,
        "declared",
        "Business > Users",
    ),
    ("password.pnp-secret-key", "The secret key is strong", Severity.HIGH, "declared", "Servers > VoIP"),
    ("password.phone-admin", "The phone password is strong", Severity.CRITICAL, "declared", "Servers > VoIP"),
    ("password.generic-sip", "Other SIP phones", Severity.HIGH, "declared", "Phone System > Handsets"),
    ("pnp.lan-creation-off", "No new phones from the LAN", Severity.MEDIUM, "declared", "Servers > VoIP"),
    ("pnp.wan-creation-off", "No new phones from the WAN", Severity.HIGH, "declared", "Servers > VoIP"),
    ("pnp.assign-user-off", "No user is assigned at a phone", Severity.LOW, "declared", "Servers > VoIP"),
    ("network.wan-admin-off", "No admin on the WAN", Severity.CRITICAL, "partly", "Network > Configuration"),
    ("server.behind-firewall-or-wan-port", "Firewall or WAN port", Severity.CRITICAL, "partly", ""),
    ("server.lan-port-not-public", "The LAN port is not public", Severity.CRITICAL, "partly", ""),
    ("server.no-forward-to-lan-port", "Nothing forwards to the LAN port", Severity.CRITICAL, "partly", ""),
    ("server.unused-services-off", "Unused services are off", Severity.HIGH, "observed", ""),
    ("server.voicemail-ports-moved", "Voicemail is off its standard ports", Severity.HIGH, "observed", ""),
    ("server.admin-page-hidden", "The admin page is hidden", Severity.CRITICAL, "observed", ""),
    (
        "server.vpn-for-maintenance",
        "Maintenance goes by VPN",
        Severity.MEDIUM,
        "partly",
        "Home > Network > VPN",
    ),
    ("server.nat-firewall", "NAT Firewall mode is on", Severity.HIGH, "partly", "Network > Configuration"),
    ("server.stealth", "The server ignores ping", Severity.MEDIUM, "observed", "Network > Configuration"),
    ("software.supported", "The software is supported", Severity.HIGH, "observed", ""),
    ("handset.behind-firewall", "Handsets are behind a firewall", Severity.CRITICAL, "observed", ""),
    ("px.admin-password", "The Px password was changed", Severity.CRITICAL, "declared", ""),
    ("px.behind-firewall", "Px expanders are behind a firewall", Severity.CRITICAL, "observed", ""),
)
PRACTICES = tuple(
    PracticeText(
        id=id_,
        title=title,
        why=f"Sample reason of {id_}.",
        part="Server",
        menu_path=menu,
        known=known,
    )
    for id_, title, _, known, menu in ROWS
)
SERVER = Support(
    fingerprint="sample.synthetic-greeting",
    says=DeviceClass.SERVER,
    confidence=0.98,
    field="smtp.greeting",
    value="220 synthetic.example synthetic mail ready",
    evidence=("e4",),
)


def port(transport: Literal["tcp", "udp"], number: int, state: PortState = PortState.FILTERED, **more: object) -> Port:
    reasons = {PortState.OPEN: "syn-ack" if transport == "tcp" else "udp-reply", PortState.CLOSED: "rst"}
    values: dict[str, object] = {
        "transport": transport,
        "port": number,
        "state": state,
        "reason": reasons.get(state, "no-response"),
        "tries": 1 if state in reasons else 3,
        "evidence": (f"e{number}",),
    }
    return Port.model_validate(values | more)


def device(class_: DeviceClass = DeviceClass.UNKNOWN, confidence: float = 0.0, **more: object) -> Device:
    return Device.model_validate({"class": class_, "confidence": confidence} | more)


def host(address: str = "198.51.100.10", *, changed: tuple[Port, ...] = (), **more: object) -> Host:
    """A host whose ports are silent but for the `changed` ones."""
    new = {one.key: one for one in changed}
    ports = [port("tcp", number) for number in TCP]
    ports += [port("udp", number, PortState.OPEN_FILTERED) for number in UDP]
    known = {one.key for one in ports}
    values: dict[str, object] = {
        "address": address,
        "alive": Alive(proven=False, by="nothing that only this address can have sent came back"),
        "echo": Echo.SILENT,
        "device": device(),
        "ports": [
            *(new.get(one.key, one) for one in ports),
            *(one for key, one in new.items() if key not in known),
        ],
    }
    return Host.model_validate(values | more)


def findings(address: str, statuses: dict[str, Status], because: dict[str, str] | None = None) -> list[Finding]:
    """One finding for each practice: met, or undeclared, unless `statuses` says otherwise."""
    found = []
    for id_, title, severity, known, menu in ROWS:
        usual = Status.MET if known == "observed" else Status.UNDECLARED
        if id_.startswith(("handset.", "px.")):
            usual = Status.NOT_APPLICABLE
        status = statuses.get(id_, usual)
        found.append(
            Finding(
                practice=id_,
                host=address,
                status=status,
                severity=severity,
                title=title,
                because=(because or {}).get(id_, f"Sample sentence: {status}."),
                remedy=f"Open {menu} and change it." if menu else "Close the port on the firewall.",
                evidence=("e4", "e5060"),
            )
        )
    return found


def scan(hosts: tuple[Host, ...], found: list[Finding], verdict: Verdict, *because: str, **more: object) -> Scan:
    statuses = [finding.status for finding in found]
    made = statuses.count(Status.DECLARED)
    values: dict[str, object] = {
        "scanner": Scanner(version="0.1.0"),
        "id": "20261103T140500Z-00000000",
        "started": AT,
        "finished": AT + timedelta(seconds=12),
        "site": Site(name="sample site", targets=tuple(one.address for one in hosts)),
        "authorization": Authorization(by="the sample's owner", reference="sample order 1"),
        "vantage": Vantage(name="sample vantage", checked=True, on=AT - timedelta(days=2)),
        "verdict": verdict,
        "because": because,
        "hosts": hosts,
        "findings": tuple(found),
        "declarations": Declarations(made=made, of=made + statuses.count(Status.UNDECLARED)),
        "evidence": (
            Evidence(
                id="e5060",
                kind="udp",
                at=AT,
                address=hosts[0].address,
                port=5060,
                probe="sip",
                token="00",
                state="open",
                reason="udp-reply",
                by=hosts[0].address,
                tries=1,
                rtt_ms=9.5,
                sent="OPTIONS",
                received="SIP/2.0 200 OK",
                steps=(Step(ms=0, what="sent", size=7), Step(ms=9.5, what="received", size=14)),
            ),
        ),
    }
    return Scan.model_validate(values | more)


def exposed_server() -> Scan:
    """SIP, mail, the admin page and ping can be reached: no-go."""
    address = "198.51.100.10"
    server = device(DeviceClass.SERVER, 0.98, version="7.5.9.9", support=(SERVER,), evidence=("e4",))
    tls = Tls(version="TLSv1.2", subject="CN=synthetic.example", self_signed=True, not_after=AT)
    changed = (
        port(
            "tcp",
            25,
            PortState.OPEN,
            service="smtp",
            banner="220 synthetic.example synthetic mail ready",
            device=device(DeviceClass.SERVER, 0.98),
        ),
        port("tcp", 143, PortState.OPEN, service="imap", banner="* OK synthetic imap", tls=tls),
        port("tcp", 443, PortState.CLOSED, by=address),
        port("tcp", 22, PortState.FILTERED, reason="icmp-admin-prohibited", by="198.51.100.1"),
        port("tcp", 8080, PortState.OPEN, service="http", banner="synthetic web server", notes=("sample note",)),
        port("udp", 5060, PortState.OPEN, service="sip", banner="SIP/2.0 200 OK", product="synthetic SIP"),
        port("udp", 161, PortState.UNMEASURED, reason="our-error: OSError", tries=0),
    )
    told = {
        "sip.not-reachable": 'SIP can be reached from outside: udp/5060 said "SIP/2.0 200 OK".',
        "server.admin-page-hidden": "An Allworx web server answers on the port of the admin page: tcp/8080.",
        "server.voicemail-ports-moved": "Mail answers on a standard port: tcp/25; tcp/143.",
        "server.unused-services-off": "Open and declared by nobody: tcp/25 (smtp), tcp/143 (imap).",
        "network.wan-admin-off": "An Allworx web server answers on the port of the admin page: tcp/8080.",
        "server.stealth": "The address answers ping.",
    }
    statuses = dict.fromkeys(told, Status.NOT_MET)
    statuses |= {"password.admin": Status.DECLARED, "software.supported": Status.CANNOT_TELL}
    found = findings(address, statuses, told)
    waiver = Waiver(
        practice="server.stealth",
        until=date(2026, 12, 1),
        because="the provider wants ping",
        by="sample owner",
    )
    found = [one.model_copy(update={"waived": waiver}) if one.practice == "server.stealth" else one for one in found]
    seen = host(
        address,
        changed=changed,
        names=("pbx.sample.example",),
        alive=Alive(proven=True, by="udp/5060 answered"),
        echo=Echo.REPLIED,
        device=server,
        path=Path(loss=0.02, samples=60),
    )
    site = Site(
        name="exposed-server",
        targets=(address,),
        declares={"password.admin": Declaration(by="sample technician", on=date(2026, 11, 1))},
        waivers=(waiver,),
    )
    partner = {"name": "Sample Partner", "phone": "555-0100", "mail": "help@partner.example"}
    return scan(
        (seen,),
        found,
        Verdict.NO_GO,
        *list(told.values())[:5],
        f"server.stealth is not met on {address}; sample owner waived it until 2026-12-01: wanted",
        site=site,
        partner=partner,
    )


def silent_site() -> Scan:
    """Nothing answers but a router on the way, and nobody vouched for the address: inconclusive."""
    address = "198.51.100.44"
    way = Path(
        errors=(RouterError(by="198.51.100.1", type=3, code=1, reason="icmp-host-unreachable", times=4),),
        last_hop=Hop(ttl=7, address="198.51.100.1", reason="icmp-host-unreachable", evidence=("e40",)),
    )
    statuses = {id_: Status.CANNOT_TELL for id_, _, _, known, _ in ROWS if known == "observed"}
    silence = "Nothing at this address has answered, so silence proves nothing."
    found = findings(address, statuses, dict.fromkeys(statuses, silence))
    because = f"Nothing at {address} has answered: the line may be down or the address wrong."
    return scan((host(address, path=way),), found, Verdict.INCONCLUSIVE, because, silence)


def silent_with_presence() -> Scan:
    """Nothing answers, and a person confirmed that the live site is there: go."""
    address = "198.51.100.45"
    present = Presence(by="sample technician", on=AT, how="saw the address on the router's page")
    site = Site(name="silent-site", targets=(address,), device=DeviceClass.SERVER, present=present)
    seen = host(address, device=device(DeviceClass.SERVER, 1.0, declared=True))
    return scan(
        (seen,),
        findings(address, {}),
        Verdict.GO,
        "Seen from outside at the time of this scan, nothing broke a practice of critical or high severity.",
        "sample technician confirmed on 2026-11-03 that the live site is at this address.",
        "0 practices rest on somebody's declaration; 15 were declared by nobody.",
        site=site,
    )


MARKUP = "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>\"'`</style></td>"
HOSTILE = f"\x00\x1b[31;1m\x1b]0;owned\x07\u202e{MARKUP}\u200b\u2066\x9b2J[bold red]{{{{7*7}}}}{{% raw %}}\r\n"


def hostile(length: int = 1_000_000) -> Scan:
    """Every text that the network can choose is an attack; the SIP banner is a megabyte."""
    address = "198.51.100.66"
    long = HOSTILE + "A" * (length - len(HOSTILE))
    tls = Tls(version="TLSv1.2", subject=HOSTILE, issuer=HOSTILE, names=(HOSTILE,), self_signed=True)
    bad = device(
        DeviceClass.OTHER,
        0.6,
        model=HOSTILE,
        version=HOSTILE,
        support=(SERVER.model_copy(update={"value": long, "field": HOSTILE, "heuristic": True}),),
    )
    changed = (
        port("udp", 5060, PortState.OPEN, service="sip", banner=long, product=long, notes=(long,), device=bad),
        port("tcp", 25, PortState.OPEN, service=HOSTILE, banner=HOSTILE, tls=tls, said={HOSTILE: HOSTILE}),
        port("tcp", 80, PortState.OPEN, reason=HOSTILE, by=HOSTILE, banner=HOSTILE),
    )
    seen = host(
        address,
        changed=changed,
        names=(HOSTILE, long),
        alive=Alive(proven=True, by=HOSTILE),
        device=bad,
        path=Path(
            loss=0.5,
            samples=8,
            middlebox=HOSTILE,
            blurred=(HOSTILE, "tcp/80"),
            errors=(RouterError(by=HOSTILE, type=3, code=1, reason=HOSTILE, times=2),),
            last_hop=Hop(ttl=4, address=HOSTILE, reason=long),
            dark=Dark(port=HOSTILE, answered=AT, silent=AT),
        ),
    )
    statuses = {"sip.not-reachable": Status.NOT_MET}
    told = {id_: f"It said {HOSTILE}" for id_, *_ in ROWS} | {"sip.not-reachable": f"It said {long}"}
    found = [one.model_copy(update={"title": HOSTILE, "remedy": HOSTILE}) for one in findings(address, statuses, told)]
    site = Site(
        name=HOSTILE,
        targets=(address,),
        present=Presence(by=HOSTILE, on=AT, how=HOSTILE),
        declares={HOSTILE: Declaration(by=HOSTILE, on=AT.date())},
        waivers=(Waiver(practice=HOSTILE, until=AT.date(), because=HOSTILE, by=HOSTILE),),
    )
    return scan(
        (seen,),
        found,
        Verdict.NO_GO,
        f"It said {long}",
        site=site,
        partner=dict.fromkeys(("name", "contact", "phone", "mail"), HOSTILE),
        authorization=Authorization(by=HOSTILE, reference=HOSTILE, role=HOSTILE),
        vantage=Vantage(name=HOSTILE, blind=(HOSTILE, long), forged=(HOSTILE,)),
        id=HOSTILE,
        scanner=Scanner(name=HOSTILE, version=HOSTILE),
    )


def two_hosts() -> Scan:
    """An exposed server and a silent address behind one site: no-go."""
    exposed, silent = exposed_server(), silent_site()
    return exposed.model_copy(
        update={
            "hosts": exposed.hosts + silent.hosts,
            "findings": exposed.findings + silent.findings,
            "declarations": Declarations(made=1, of=31),
        }
    )


ALL = (exposed_server, silent_site, silent_with_presence, two_hosts, hostile)
