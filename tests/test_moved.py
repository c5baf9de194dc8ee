"""What the report says that moving voicemail bought: no more than was seen."""

from __future__ import annotations

from typing import Any

import pytest
from test_assess import FAMILY, ON, PRESENT, SERVER, host, judge, port, ports

from exposure_scan.model import Dark, Device, DeviceClass, Finding, Path, Port, PortState, Status, Support, Sweep, Swept

OTHER = Device(class_=DeviceClass.OTHER, confidence=0.9)
SHUT = Swept(ports="1-3", number=3, state=PortState.CLOSED, reason="rst", confidence=1.0, tries=1, evidence=("e-shut",))
QUIET = SHUT.model_copy(update={"state": PortState.FILTERED, "reason": "no-response", "confidence": 0.99, "tries": 2})
ONE_SYN = QUIET.model_copy(update={"tries": 1})
UNMEASURED = SHUT.model_copy(
    update={"state": PortState.UNMEASURED, "reason": "vantage-blind", "confidence": None, "tries": 0}
)
TOO_MANY = SHUT.model_copy(update={"state": PortState.OPEN, "reason": "syn-ack"})


def named(key: str, service: str, field: str, says: DeviceClass = DeviceClass.SERVER) -> Port:
    support = Support(fingerprint="synthetic", says=says, confidence=0.9, field=field, value="synthetic", port=key)
    return port(key, service=service, device=Device(class_=says, confidence=0.9, support=(support,)))


def finding(*open_: Port, found: tuple[str, ...] | None = None, seconds: float | None = None, **more: Any) -> Finding:
    """The finding of a server with these ports open; `found` are those that a wide sweep found."""
    seen = {key: more.pop(key) for key in ("swept", "path", "alive") if key in more}
    sweep = None if found is None else Sweep(found=found, seconds=seconds)
    return judge(host(*ports(*open_), device=SERVER, sweep=sweep, **seen), **more)[2]["server.voicemail-ports-moved"]


def test_what_was_seen_is_cited_with_its_words() -> None:
    seen = finding(port("tcp/2525", service="smtp", banner="220 pbx.synthetic.invalid ready"), found=("tcp/2525",))
    assert seen.status is Status.MET
    assert 'Mail answers elsewhere: tcp/2525 said "220 pbx.synthetic.invalid ready".' in seen.because
    assert "e-tcp/2525" in seen.evidence
    assert "keeps off only those who look at standard ports alone" in seen.because


# --- how it was found -----------------------------------------------------------------------------


def test_a_declared_port_is_told_as_declared_and_as_nobody_s_find() -> None:
    smtp = port("tcp/2525", service="smtp")
    for operator in ({"voicemail": {"smtp": 2525}}, {"expect": ("tcp/2525",)}):
        because = finding(smtp, found=(), swept=(SHUT,), **operator).because
        assert "The operator declared tcp/2525." in because
        assert "found" not in because


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, " within 1 second, at this scan's pace."),
        (1.2, " within 1 second, at this scan's pace."),
        (59.6, " within 60 seconds, at this scan's pace."),
        (655.3, " within 11 minutes, at this scan's pace."),
        (None, "found tcp/2525."),
    ],
)
def test_what_nobody_declared_was_found_within_a_time(seconds: float | None, words: str) -> None:
    because = finding(
        port("tcp/2525", service="smtp"), found=("tcp/2525",), seconds=seconds, swept=(SHUT, QUIET)
    ).because
    assert "Without being told, a sweep of all TCP ports found tcp/2525" in because
    assert words in because
    assert "declared" not in because


def test_a_sweep_that_did_not_measure_every_port_is_not_one_of_all_ports() -> None:
    because = finding(port("tcp/2525", service="smtp"), found=("tcp/2525",), swept=(SHUT, UNMEASURED)).because
    assert "could not measure all of them, found tcp/2525" in because
    assert "all TCP ports" not in because


def test_mail_on_a_port_that_was_asked_by_number_is_no_find_of_a_sweep() -> None:
    because = finding(port("tcp/8081", service="smtp")).because
    assert "tcp/8081 was among the ports that this scan set out to ask." in because
    assert "sweep" not in because
    assert "declared" not in because


def test_each_port_is_told_as_it_was_found() -> None:
    open_ = [port(f"tcp/{number}", service="imap") for number in (1143, 2525, 8081)]
    because = finding(*open_, found=("tcp/2525",), voicemail={"imap": 1143}).because
    assert "The operator declared tcp/1143." in because
    assert "found tcp/2525." in because
    assert "tcp/8081 was among" in because


# --- whether it gives itself away ------------------------------------------------------------------


def test_a_greeting_that_names_the_product_is_told() -> None:
    mail = named("tcp/2525", "smtp", "smtp.greeting")
    assert "The greeting still names the product." in finding(mail).because
    other = port("tcp/1143", service="imap")
    assert "The greeting on tcp/2525 still names the product." in finding(mail, other).because


def test_a_certificate_that_names_the_product_is_no_greeting() -> None:
    because = finding(named("tcp/1143", "imap", "tls.subject")).because
    assert "What tcp/1143 says after the greeting still names the product." in because
    assert "The greeting" not in because


def test_a_greeting_of_somebody_else_does_not_name_the_product() -> None:
    mail = named("tcp/1143", "imap", "tls.subject")
    assert mail.device is not None
    greeting = mail.device.support[0].model_copy(update={"field": "imap.greeting", "says": DeviceClass.OTHER})
    device = mail.device.model_copy(update={"support": (*mail.device.support, greeting)})
    assert "The greeting" not in finding(mail.model_copy(update={"device": device})).because


def test_a_greeting_that_names_nobody_is_told_with_the_doubt() -> None:
    because = finding(port("tcp/2525", service="smtp")).because
    assert "No greeting names the product, as far as the fingerprints know it." in because
    assert "still names" not in because


def test_the_family_s_name_gives_the_product_away_as_well() -> None:
    assert "still names the product" in finding(port("tcp/2525", service="smtp", device=FAMILY)).because


# --- other mail ------------------------------------------------------------------------------------


def test_mail_of_another_product_is_not_taken_for_voicemail_that_was_moved() -> None:
    seen = finding(port("tcp/2525", service="smtp", device=OTHER), found=("tcp/2525",), swept=(SHUT,))
    assert "Mail of another product answers elsewhere: tcp/2525 answers SMTP." in seen.because
    assert "Without being told" not in seen.because
    assert "names the product" not in seen.because
    assert "found no other mail" in seen.because


@pytest.mark.parametrize("key", ["tcp/110", "tcp/995"])
def test_pop3_where_it_always_was_is_told_and_breaks_nothing(key: str) -> None:
    seen = finding(port(key, service="pop3"))
    assert seen.status is Status.MET
    assert f"POP3, which gives the same inbox, does: {key} answers POP3." in seen.because
    assert "elsewhere" not in seen.because


def test_pop3_elsewhere_is_moved_mail() -> None:
    assert "Mail answers elsewhere: tcp/1110 answers POP3." in finding(port("tcp/1110", service="pop3")).because


@pytest.mark.parametrize("key", ["tcp/25", "tcp/143", "tcp/465", "tcp/587", "tcp/993"])
@pytest.mark.parametrize("service", ["smtp", "imap"])
def test_mail_on_a_standard_port_stays_a_breach_whatever_was_moved_beside_it(key: str, service: str) -> None:
    seen = finding(port(key, service=service), port("tcp/2525", service="smtp"), found=("tcp/2525",))
    assert seen.status is Status.NOT_MET


# --- nothing was found ------------------------------------------------------------------------------

NONE = "The sweep of all other TCP ports found no mail."


def test_a_sweep_that_settled_every_port_may_say_that_there_is_no_mail() -> None:
    assert NONE in finding(found=(), swept=(SHUT, QUIET)).because
    web = port("tcp/8090", service="http")
    assert NONE in finding(web, found=("tcp/8090",), swept=(SHUT,), expect=("tcp/8090",)).because


def test_without_a_sweep_nothing_is_said_of_one() -> None:
    assert "sweep" not in finding().because


@pytest.mark.parametrize("group", [UNMEASURED, ONE_SYN, TOO_MANY], ids=["unmeasured", "one SYN", "too many open"])
def test_a_sweep_that_left_a_port_open_to_doubt_says_nothing_of_all(group: Swept) -> None:
    assert "no mail" not in finding(found=(), swept=(SHUT, group)).because


def test_a_port_that_did_not_say_what_it_is_may_be_mail() -> None:
    assert "no mail" not in finding(port("tcp/2525"), found=("tcp/2525",), swept=(SHUT,)).because


def test_where_nobody_is_known_to_be_there_silence_is_no_absence() -> None:
    seen = finding(found=(), swept=(QUIET,), alive=False, present=PRESENT)
    assert seen.status is Status.MET, "a person says so, and no packet does"
    assert "no mail" not in seen.because


def test_a_sweep_that_somebody_ended_by_blocking_us_says_nothing_of_all() -> None:
    here = {"by": "198.51.100.10", "reason": "rst"}
    dark = Dark(port="tcp/80", answered=ON, silent=ON, evidence=("e-dark",))
    refused = [port(key, "closed", **here) for key in ("tcp/25", "tcp/143")]
    seen = finding(*refused, found=(), swept=(SHUT,), path=Path(dark=dark))
    assert seen.status is Status.MET, "both refused in words of their own"
    assert "no mail" not in seen.because


def test_a_handshake_that_is_nobody_s_is_no_mail() -> None:
    mute = port("tcp/2525")
    path = Path(middlebox="synthetic", blurred=("tcp/2525",))
    because = finding(mute, found=("tcp/2525",), swept=(SHUT,), path=path).because
    assert "elsewhere" not in because
    assert "no mail" not in because
