"""Whole hosts through all practices to a verdict, with the promises that a verdict must keep."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exposure_scan.assess import assess_host, declarations, practices, verdict
from exposure_scan.model import (
    Alive,
    Declaration,
    Declarations,
    Device,
    DeviceClass,
    Echo,
    Finding,
    Hop,
    Host,
    Path,
    Port,
    PortState,
    Presence,
    Severity,
    Site,
    Status,
    Vantage,
    Verdict,
    Waiver,
)

ON = datetime(2026, 11, 24, 12, tzinfo=UTC)
OUTSIDE = Vantage(name="a lab", checked=True)
PRESENT = Presence(by="the installer", on=ON)
FAMILY = Device(class_=DeviceClass.ALLWORX, confidence=0.9)
SERVER = Device(class_=DeviceClass.SERVER, confidence=0.95)
UNKNOWN = Device(class_=DeviceClass.UNKNOWN, confidence=0)
TCP = (21, 22, 23, 25, 53, 80, 110, 143, 443, 465, 587, 993, 995, 1723, 3389, 5060, 5061, 8080, 8081, 8443)
UDP = (53, 69, 123, 161, 500, 1701, 2088, 4500, 5060, 5061)
CANARY = 47808


def port(key: str, state: str = "open", service: str | None = None, **more: Any) -> Port:
    transport, number = key.split("/")
    values: dict[str, Any] = {"reason": "synthetic", "tries": 3, "evidence": (f"e-{key}",), **more}
    return Port(
        transport="udp" if transport == "udp" else "tcp",
        port=int(number),
        state=PortState(state),
        service=service,
        **values,
    )


def ports(*answering: Port, tcp: str = "closed", udp: str = "closed") -> tuple[Port, ...]:
    """The default plan's ports: those given, and all others in one state."""
    given_keys = {answer.key for answer in answering}
    rest = [port(f"tcp/{n}", tcp) for n in (*TCP, CANARY)] + [port(f"udp/{n}", udp) for n in UDP]
    return (*answering, *(other for other in rest if other.key not in given_keys))


def host(*seen: Port, device: Device = UNKNOWN, alive: bool = True, **more: Any) -> Host:
    values: dict[str, Any] = {"echo": Echo.SILENT, "address": "198.51.100.10", **more}
    by = "tcp/80 refused a connection" if alive else "nothing that only this address can have sent came back"
    return Host(alive=Alive(proven=alive, by=by), device=device, ports=seen, **values)


def site(**more: Any) -> Site:
    return Site(name="Synthetic site", targets=("198.51.100.10",), **more)


def judge(
    *hosts: Host, vantage: Vantage = OUTSIDE, **operator: Any
) -> tuple[Verdict, tuple[str, ...], dict[str, Finding]]:
    """Verdict, reasons, and the findings of the last host by practice."""
    found = [assess_host(one, site(**operator), ON) for one in hosts]
    word, because = verdict(hosts, [f for findings in found for f in findings], site(**operator), vantage, ON)
    return word, because, {finding.practice: finding for finding in found[-1]}


def exposed() -> Host:
    return host(
        *ports(
            port("udp/5060", service="sip", banner="SIP/2.0 200 OK"),
            port("tcp/25", service="smtp", device=SERVER, banner="220 a.invalid InSciTek OIS Ready here ESMTP"),
            port("tcp/143", service="imap", banner="* OK IMAP4rev1 ready"),
            port("tcp/110", service="pop3", device=SERVER),
            port("tcp/80", service="http", device=SERVER),
            port("tcp/8080", service="http", device=FAMILY, said={"http.server": "IST OIS", "http.status": "403"}),
        ),
        device=SERVER,
        echo=Echo.REPLIED,
        echo_evidence=("e-icmp",),
    )


def silent() -> Host:
    return host(*ports(tcp="filtered", udp="open|filtered"), alive=False)


def dead_quiet(**more: Any) -> Host:
    """A living server of which every door is shut: a go."""
    return host(*ports(), device=SERVER, **more)


# --- whole sites ---------------------------------------------------------------------------------


def test_an_exposed_server_breaks_exactly_these_practices() -> None:
    word, because, findings = judge(exposed())
    assert word is Verdict.NO_GO
    assert {id_ for id_, finding in findings.items() if finding.status is Status.NOT_MET} == {
        "sip.not-reachable",
        "network.wan-admin-off",
        "server.unused-services-off",
        "server.voicemail-ports-moved",
        "server.admin-page-hidden",
        "server.vpn-for-maintenance",
        "server.stealth",
    }
    assert not [f for f in findings.values() if f.status is Status.CANNOT_TELL]
    assert because[0] == 'SIP can be reached from outside: udp/5060 said "SIP/2.0 200 OK".'
    assert len(because) == len(set(because)) == 4  # admin page once, though two practices are broken by it


def test_a_finding_cites_exactly_what_shows_the_breach() -> None:
    _, _, findings = judge(exposed())
    assert findings["sip.not-reachable"].evidence == ("e-udp/5060",)
    assert findings["server.admin-page-hidden"].evidence == ("e-tcp/8080",)
    assert set(findings["server.voicemail-ports-moved"].evidence) == {"e-tcp/25", "e-tcp/143"}
    assert findings["server.stealth"].evidence == ("e-icmp",)
    _, _, findings = judge(dead_quiet())
    assert 0 < len(findings["server.unused-services-off"].evidence) <= 12


@pytest.mark.parametrize("device", [None, *DeviceClass])
def test_a_silent_site_is_inconclusive_until_a_person_confirms_it(device: DeviceClass | None) -> None:
    word, because, findings = judge(silent(), device=device)
    assert word is Verdict.INCONCLUSIVE
    assert len(because) == 1  # one reason, said once
    assert "Nothing at 198.51.100.10 has answered" in because[0]
    assert not [f for f in findings.values() if f.status in (Status.MET, Status.NOT_MET)]
    word, because, _ = judge(silent(), device=device, present=PRESENT)
    assert word is Verdict.GO
    assert "The live site is at this address, as the installer confirmed on 2026-11-24." in because
    assert "Nothing came back from anywhere, so nothing has shown that the scanner's own line was up." in because


def test_a_router_that_spoke_shows_that_the_line_of_the_scanner_was_up() -> None:
    hop = Hop(ttl=3, address="198.51.100.1", reason="icmp-time-exceeded")
    host = silent().model_copy(update={"path": Path(last_hop=hop)})
    word, because, _ = judge(host, present=PRESENT)
    assert word is Verdict.GO
    assert not any("own line" in sentence for sentence in because)


def test_a_go_says_what_it_rests_on_and_promises_nothing() -> None:
    operator = {"declares": {"password.admin": Declaration(by="the operator", on=date(2026, 11, 1))}}
    word, because, findings = judge(dead_quiet(echo=Echo.REPLIED), vantage=Vantage(name="a lab"), **operator)
    assert word is Verdict.GO
    of = declarations(findings.values()).of
    assert because == (
        "Seen from outside at this time, no breach of a critical or high practice showed.",
        "198.51.100.10: tcp/80 refused a connection.",
        f"{of} practices rest on the operator's word: 1 declared, {of - 1} not declared by anyone.",
        "Not met, of lesser severity: server.stealth.",
        "Nobody has checked that the scanner's own network lets these questions out.",
    )


def test_the_worst_host_decides() -> None:
    quiet = dead_quiet(address="198.51.100.11")
    word, because, _ = judge(quiet, exposed())
    assert word is Verdict.NO_GO
    assert because[0].startswith("198.51.100.10: SIP can be reached")
    word, because, _ = judge(quiet, silent())
    assert word is Verdict.INCONCLUSIVE
    assert judge(quiet, quiet.model_copy(update={"address": "198.51.100.12"}))[0] is Verdict.GO
    assert verdict((), (), site(), OUTSIDE, ON) == (Verdict.INCONCLUSIVE, ("No address was scanned.",))


def test_a_view_from_inside_is_never_a_go() -> None:
    inside = Vantage(name="on site", checked=True, outside=False)
    word, because, _ = judge(dead_quiet(), vantage=inside)
    assert word is Verdict.INCONCLUSIVE
    assert "no outside view" in because[0]
    word, because, _ = judge(exposed(), vantage=inside)
    assert word is Verdict.NO_GO
    assert any("no outside view" in sentence for sentence in because)


def test_required_declarations_make_the_verdict_wait_for_the_operator() -> None:
    word, because, findings = judge(dead_quiet(), require_declarations=True)
    assert word is Verdict.INCONCLUSIVE
    assert because[0].startswith("Declarations are required and missing: password.admin, ")
    every = {id_: Declaration(by="the operator", on=date(2026, 11, 1)) for id_ in findings}
    word, _, findings = judge(dead_quiet(), require_declarations=True, declares=every)
    assert word is Verdict.GO
    assert "Declared by the operator on 2026-11-01." in findings["password.admin"].because


@pytest.mark.parametrize(
    ("until", "status", "said"),
    [
        (date(2026, 11, 24), Status.DECLARED, "Declared by the operator on 2026-11-01, until 2026-11-24."),
        (date(2026, 11, 23), Status.UNDECLARED, "counted until 2026-11-23. Nobody has declared it since."),
    ],
)
def test_a_declaration_counts_to_the_end_of_its_last_day(until: date, status: Status, said: str) -> None:
    word = {"password.admin": Declaration(by="the operator", on=date(2026, 11, 1), until=until)}
    finding = judge(dead_quiet(), declares=word)[2]["password.admin"]
    assert finding.status is status
    assert said in finding.because


def test_declarations_are_counted_where_they_apply_and_once_a_practice() -> None:
    word = {"password.admin": Declaration(by="the operator", on=date(2026, 11, 1))}
    findings = [assess_host(dead_quiet(address=f"198.51.100.{n}"), site(declares=word), ON) for n in (10, 11)]
    # 9 declared, 6 partly and the software; the Px's own password is not of this site
    assert declarations([f for each in findings for f in each]) == Declarations(made=1, of=16)
    assert declarations(()) == Declarations(made=0, of=0)


# --- waivers -------------------------------------------------------------------------------------


def waivers(until: date, *ids: str) -> dict[str, Any]:
    return {
        "waivers": tuple(Waiver(practice=id_, until=until, because="it is moved in May", by="the owner") for id_ in ids)
    }


def test_a_waiver_lifts_the_no_go_and_stays_visible() -> None:
    seen = host(*ports(port("udp/5060", service="sip")), device=SERVER)
    ids = ("sip.not-reachable", "server.unused-services-off")
    word, because, findings = judge(seen, **waivers(ON.date(), *ids))
    assert word is Verdict.GO
    assert findings["sip.not-reachable"].status is Status.NOT_MET
    assert findings["sip.not-reachable"].waived is not None
    assert "beyond what was accepted" in because[0]
    assert any(s.startswith("sip.not-reachable is not met") and "the owner" in s for s in because)
    assert judge(seen, **waivers(ON.date(), ids[0]))[0] is Verdict.NO_GO  # the other one still stands


def test_a_waiver_ends_with_its_day() -> None:
    seen = host(*ports(port("udp/5060", service="sip")), device=SERVER)
    ids = ("sip.not-reachable", "server.unused-services-off")
    word, _, findings = judge(seen, **waivers(date(2026, 11, 23), *ids))
    assert word is Verdict.NO_GO
    assert findings["sip.not-reachable"].waived is None


def test_a_waiver_does_not_turn_what_nobody_knows_into_a_go() -> None:
    seen = host(*ports(port("udp/5060", "unmeasured")), device=SERVER)
    every = waivers(ON.date(), *(practice.id for practice in practices()))
    assert judge(seen, **every)[0] is Verdict.INCONCLUSIVE


# --- never a false go ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["udp/5060", "tcp/5060", "udp/5061", "tcp/5061", "tcp/25", "tcp/143", "tcp/8080"])
def test_a_needed_port_that_was_not_or_hardly_asked_is_never_a_go(key: str) -> None:
    weak = "open|filtered" if key.startswith("udp") else "filtered"
    assert judge(dead_quiet())[0] is Verdict.GO
    for doubtful in (port(key, "unmeasured"), port(key, weak, tries=2)):
        assert judge(host(*ports(doubtful), device=SERVER))[0] is Verdict.INCONCLUSIVE
    absent = tuple(one for one in ports() if one.key != key)
    assert judge(host(*absent, device=SERVER))[0] is Verdict.INCONCLUSIVE


def test_a_refusal_on_the_way_needs_no_repetition() -> None:
    refused = port("tcp/5060", "filtered", tries=1, reason="icmp-admin-prohibited")
    assert judge(host(*ports(refused), device=SERVER))[0] is Verdict.GO
    unreachable = port("tcp/5060", "filtered", tries=1, reason="icmp-host-unreachable")
    assert judge(host(*ports(unreachable), device=SERVER))[0] is Verdict.INCONCLUSIVE


def test_a_middlebox_that_accepts_everything_raises_no_alarm_and_gives_no_go() -> None:
    path = Path(
        middlebox="the handshake is completed even on the canary",
        blurred=tuple(f"tcp/{number}" for number in (*TCP, CANARY)),
    )
    seen = host(*ports(tcp="open"), device=SERVER, path=path)
    word, because, findings = judge(seen)
    assert word is Verdict.INCONCLUSIVE
    assert not [f for f in findings.values() if f.status is Status.NOT_MET]
    assert any("completes handshakes for everybody" in sentence for sentence in because)
    spoke = port("tcp/8080", service="http", device=FAMILY, said={"http.server": "IST OIS"})
    word, _, _ = judge(host(*ports(spoke, tcp="open"), device=SERVER, path=path))
    assert word is Verdict.NO_GO  # words cannot come from a middlebox that only shakes hands


CELLS = st.sampled_from(
    [
        ("closed", None),
        ("filtered", None),
        ("open", None),
        ("open", "sip"),
        ("open", "http"),
        ("open", "smtp"),
        ("unmeasured", None),
    ]
)


@settings(deadline=None)
@given(
    cells=st.dictionaries(st.sampled_from([f"tcp/{n}" for n in TCP] + ["udp/5060", "udp/5061"]), CELLS),
    cls=st.sampled_from(list(DeviceClass)),
    alive=st.booleans(),
    text=st.text(max_size=300),
)
def test_a_go_means_that_nothing_undeclared_was_open_or_unknown(
    cells: dict[str, tuple[str, str | None]], cls: DeviceClass, alive: bool, text: str
) -> None:
    odd = [port(key, state, service, banner=text if service else None) for key, (state, service) in cells.items()]
    seen = host(*ports(*odd), device=Device(class_=cls, confidence=0.9), alive=alive)
    word, because, findings = judge(seen)
    assert len(findings) == len(practices())
    assert because
    for sentence in because:
        assert sentence.isprintable()
        assert len(sentence) < 1500
    for practice in practices():
        if practice.known != "observed":
            assert findings[practice.id].status is not Status.MET
    if word is Verdict.GO:
        assert alive
        spoken = [one for one in odd if one.service == "sip"]
        assert not spoken
        if cls not in (DeviceClass.HANDSET, DeviceClass.PX):
            assert all(one.state in (PortState.CLOSED, PortState.FILTERED) for one in odd)


# --- never a false alarm with a name on it -------------------------------------------------------


def test_a_port_without_a_word_is_never_named() -> None:
    seen = host(*ports(port("tcp/5060"), port("tcp/25"), port("tcp/8080"), port("tcp/3389")), device=SERVER)
    _, _, findings = judge(seen)
    broken = {id_ for id_, finding in findings.items() if finding.status is Status.NOT_MET}
    assert broken == {"server.unused-services-off"}
    assert "tcp/8080 (it does not say what)" in findings["server.unused-services-off"].because


def test_another_product_behind_the_same_address_is_not_taken_for_the_phone_system() -> None:
    other = Device(class_=DeviceClass.OTHER, confidence=0.9)
    mail = port("tcp/25", service="smtp", device=other, product="Postfix", banner="220 mail.invalid ESMTP Postfix")
    web = port("tcp/8080", service="http", device=other, product="nginx")
    seen = host(*ports(mail, web), device=SERVER, also=(other,))
    word, _, findings = judge(seen, expect=("tcp/25", "tcp/8080"))
    assert word is Verdict.GO
    assert "Postfix" in findings["server.voicemail-ports-moved"].because
    assert "is nginx, not the admin page" in findings["server.admin-page-hidden"].because


def test_moved_voicemail_is_met_and_says_what_moving_bought() -> None:
    moved = port("tcp/2525", service="smtp", device=SERVER)
    word, _, findings = judge(host(*ports(moved), device=SERVER), voicemail={"smtp": 2525})
    assert word is Verdict.GO
    assert "still names the product" in findings["server.voicemail-ports-moved"].because
    assert judge(host(*ports(moved), device=SERVER))[0] is Verdict.NO_GO  # the same, and nobody declared it


# --- which practices are asked of which device ------------------------------------------------------


def not_applicable(findings: dict[str, Finding]) -> set[str]:
    return {id_.partition(".")[0] for id_, f in findings.items() if f.status is Status.NOT_APPLICABLE}


def test_practices_follow_the_classes_seen_and_declared() -> None:
    handset = Device(class_=DeviceClass.HANDSET, confidence=0.9)
    assert not_applicable(judge(host(*ports()))[2]) == set()
    assert not_applicable(judge(host(*ports(), device=SERVER))[2]) == {"handset", "px"}
    assert not_applicable(judge(host(*ports(), device=SERVER, also=(handset,)))[2]) == {"px"}
    assert not_applicable(judge(host(*ports(), device=SERVER), device=DeviceClass.PX)[2]) == {"handset"}
    family = Device(class_=DeviceClass.ALLWORX, confidence=0.9)
    assert not_applicable(judge(host(*ports(), device=family))[2]) == set()


def test_a_declared_expander_is_judged_by_what_answers() -> None:
    web = port("tcp/80", service="http")
    word, because, findings = judge(host(*ports(web)), device=DeviceClass.PX)
    assert word is Verdict.NO_GO
    assert findings["px.behind-firewall"].evidence == ("e-tcp/80",)
    assert because == ("The Px Expander can be reached from outside: tcp/80 answers HTTP.",)


def test_a_phone_that_nobody_declared_is_not_guessed() -> None:
    seen = host(*ports(port("udp/5060", service="sip")))
    word, because, findings = judge(seen, expect=("udp/5060",))
    assert word is Verdict.INCONCLUSIVE
    assert findings["handset.behind-firewall"].status is Status.CANNOT_TELL
    assert any("Declare the device" in sentence for sentence in because)
    word, _, findings = judge(seen, expect=("udp/5060",), device=DeviceClass.SERVER)
    assert word is Verdict.GO
    assert "only where it is expected" in findings["sip.not-reachable"].because


# --- what a sentence may hold ----------------------------------------------------------------------


def test_hostile_words_are_shortened_and_made_printable() -> None:
    banner = "SIP/2.0 200 \x1b[31mOK\u202e\r\nSecond: line\x00" + "A" * 100_000
    _, because, _ = judge(host(*ports(port("udp/5060", service="sip", banner=banner)), device=SERVER))
    assert because[0].isprintable()
    assert len(because[0]) < 200
    assert 'said "SIP/2.0 200 OK Second: line' in because[0]


def test_a_host_with_all_ports_open_is_told_in_few_words() -> None:
    many = [port(f"tcp/{n}", service="http") for n in range(1, 3000)]
    _, because, findings = judge(host(*many, device=SERVER))
    assert "and 2991 more" in findings["server.unused-services-off"].because
    assert all(len(sentence) < 1000 for sentence in because)


def test_versions_are_compared_as_numbers() -> None:
    for shown, record in product(("7.10.1", "10.0", "8.0"), (None, "7.5")):
        newer = Device(class_=DeviceClass.SERVER, confidence=0.9, version=shown)
        assert judge(host(*ports(), device=newer), software=record)[2]["software.supported"].status is Status.MET
    declared = Device(class_=DeviceClass.SERVER, confidence=0, declared=True, version="8.0")
    on_record = judge(host(*ports(), device=declared), software="8.0")[2]["software.supported"]
    assert on_record.status is Status.DECLARED  # the record is never sold as something that was seen
    old = judge(host(*ports(), device=SERVER), software="7.5.11.7")
    assert old[0] is Verdict.NO_GO
    assert "on the operator's record" in old[1][0]
    assert old[2]["software.supported"].severity is Severity.HIGH
