"""What makes silence worthless: blocks, old words, routers that find no way, and too little certainty."""

from __future__ import annotations

from datetime import timedelta

from test_assess import ON, SERVER, exposed, host, judge, port, ports, silent

from exposure_scan.model import Dark, DeviceClass, Path, Presence, Status, Verdict

SIP_KEYS = ("udp/5060", "tcp/5060", "udp/5061", "tcp/5061")


def test_a_host_that_went_dark_is_never_a_go() -> None:
    dark = Dark(port="tcp/443", answered=ON, silent=ON + timedelta(seconds=5), evidence=("e-dark",))
    shut = host(*ports(tcp="filtered", udp="open|filtered"), device=SERVER)
    assert judge(shut)[0] is Verdict.GO
    word, because, findings = judge(shut.model_copy(update={"path": Path(dark=dark)}))
    assert word is Verdict.INCONCLUSIVE
    assert "tcp/443" in because[0]
    assert "allow the scanner's address" in because[0]
    assert findings["sip.not-reachable"].status is Status.CANNOT_TELL
    assert findings["sip.not-reachable"].evidence[0] == "e-dark"


def test_a_word_on_the_presence_ends_after_24_hours_or_when_it_says() -> None:
    for until, hours, word in (
        (None, 23, Verdict.GO),
        (None, 24, Verdict.INCONCLUSIVE),
        (ON + timedelta(hours=1), 2, Verdict.INCONCLUSIVE),
        (ON + timedelta(hours=48), 47, Verdict.GO),
    ):
        said = Presence(
            by="the installer", on=ON - timedelta(hours=hours), until=until and until - timedelta(hours=hours)
        )
        assert judge(silent(), device=DeviceClass.SERVER, present=said)[0] is word


def test_a_router_that_finds_no_way_settles_nothing_and_is_named_once() -> None:
    lost = [port(key, "filtered", reason="icmp-host-unreachable", by="198.51.100.1") for key in SIP_KEYS]
    word, because, findings = judge(host(*ports(*lost), device=SERVER))
    assert word is Verdict.INCONCLUSIVE
    assert findings["sip.not-reachable"].status is Status.CANNOT_TELL
    assert because[0].count("198.51.100.1 said icmp-host-unreachable") == 1


def test_a_finding_is_as_sure_as_its_least_sure_silence() -> None:
    sure = iter((1.0, 0.9995, 0.9991, 1.0))
    rows = [port(key, "filtered" if "tcp" in key else "open|filtered", confidence=next(sure)) for key in SIP_KEYS]
    _, _, findings = judge(host(*ports(*rows), device=SERVER))
    assert findings["sip.not-reachable"].confidence == 0.9991
    _, _, findings = judge(exposed())
    assert findings["sip.not-reachable"].confidence == 1.0
    assert findings["password.admin"].confidence is None


def test_a_silence_that_is_not_sure_enough_is_never_a_go() -> None:
    unsure = port("tcp/8080", "filtered", confidence=0.99, tries=9)
    assert judge(host(*ports(unsure), device=SERVER))[0] is Verdict.INCONCLUSIVE
