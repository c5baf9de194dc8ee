"""The customer's copy: what it must not show is nowhere in it, and it says the same as the partner's."""

from __future__ import annotations

from pathlib import Path

import nmap_files
import pytest
from samples_redaction import HOST, SECRETS, SITES, answering, judgement, lab, planted, port_of

from exposure_scan import sweep
from exposure_scan.conversation import unescape
from exposure_scan.model import Problem, Scan, Status, Verdict
from exposure_scan.report import load_scan
from exposure_scan.sweep.redacted import customer_copy, redacted

FORMATS = ("html", "json", "csv", "markdown", "sarif", "junit", "mail-html", "mail-text")


@pytest.fixture(scope="module")
def full() -> Scan:
    return planted()


@pytest.fixture(scope="module")
def copy(full: Scan) -> Scan:
    return redacted(full)


def shown(scan: Scan) -> str:
    """The scan's JSON, and the evidence's bytes with their hex, for what is no text."""
    heard = b"\n".join(unescape(proof.received) for proof in scan.evidence)
    return f"{scan.to_json()}\n{heard.decode('latin-1')}\n{heard.hex()}".lower()


# --- nothing is left ------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", SECRETS)
def test_what_the_network_said_of_the_customer_is_in_the_partners_scan_and_not_in_the_copy(
    secret: str, full: Scan, copy: Scan
) -> None:
    assert secret.lower() in shown(full)
    assert secret.lower() not in shown(copy)


@pytest.mark.parametrize("form", FORMATS)
def test_no_format_of_the_copy_shows_what_was_masked(form: str, copy: Scan) -> None:
    text = sweep.render(copy, form).decode().lower()
    assert [secret for secret in SECRETS if secret.lower() in text] == []
    assert copy.site.name in text  # it is the whole report all the same


def test_the_report_of_the_partner_shows_what_the_copy_does_not(full: Scan) -> None:
    text = sweep.render(full, "html").decode()
    assert "customer-synthetic" in text


def test_what_the_copy_is_for_stays(full: Scan, copy: Scan) -> None:
    assert port_of(copy, "tcp/25").said["smtp.greeting"] == f"220 {'x' * len(HOST)} InSciTek OIS Ready here ESMTP"
    assert port_of(copy, "tcp/80").said["http.server"] == "IST OIS"
    assert port_of(copy, "udp/5060").said["sip.server"] == "PBX/9.1.2 (xxxxxxxxxxxx)"
    assert port_of(copy, "udp/5060").said["sip.private"] == "10.1.2.3 (Record-Route)"
    assert port_of(copy, "udp/161").said["snmp.enterprise"] == "8072"
    assert (copy.site, copy.authorization, copy.partner) == (full.site, full.authorization, full.partner)
    assert [one.sent for one in copy.evidence] == [one.sent for one in full.evidence]
    assert [host.address for host in copy.hosts] == [host.address for host in full.hosts]


def test_our_own_words_that_come_back_stay_so_that_no_change_on_the_way_is_told(full: Scan, copy: Scan) -> None:
    (proof,) = (one for one in copy.evidence if one.id == "planted-udp-5060")
    call_id = next(line for line in proof.sent.split("\\r\\n") if line.startswith("Call-ID"))
    assert call_id.endswith("@exposure-scan.invalid")
    assert call_id in proof.received
    assert port_of(copy, "tcp/25").said["smtp.ehlo"].split("\n")[0] == f"250-{'x' * 32} greets exposure-scan.invalid"
    assert port_of(copy, "udp/5060").notes == port_of(full, "udp/5060").notes


def test_the_copy_says_that_it_is_one_and_carries_no_packets(full: Scan, copy: Scan) -> None:
    assert (full.redacted, copy.redacted) == (False, True)
    assert copy.capture == "none"
    assert {proof.frames for proof in copy.evidence} == {""}
    assert redacted(copy) is copy


def test_the_operators_words_stay_though_the_network_says_them_too() -> None:
    scan = lab("moved-voicemail")
    site = scan.site.model_copy(update={"name": "pbx.moved-voicemail.invalid"})
    copy = redacted(sweep.rederive(scan.model_copy(update={"site": site})))
    assert copy.site.name == "pbx.moved-voicemail.invalid"
    assert copy.to_json().count("moved-voicemail") == 1


# --- and it says the same -------------------------------------------------------------------------


@pytest.mark.parametrize("site", SITES)
def test_the_copy_of_each_practice_site_is_judged_alike_and_can_be_verified(site: str) -> None:
    scan = lab(site)
    copy = redacted(scan)
    assert judgement(copy) == judgement(scan)
    assert sweep.differences(copy, sweep.rederive(copy)) == []
    assert f"{site}.invalid" not in shown(copy)
    assert load_scan(copy.to_json()) == copy


def test_a_copy_with_much_masked_is_judged_alike_and_can_be_verified(full: Scan, copy: Scan) -> None:
    assert judgement(copy) == judgement(full)
    assert sweep.differences(copy, sweep.rederive(copy)) == []


def test_words_on_which_a_product_rests_stay_and_no_others_with_them() -> None:
    page = b'HTTP/1.0 401 No\r\nWWW-Authenticate: Basic realm="level_15_access"\r\nLocation: http://cisco7.example.com/\r\n\r\n'
    scan = answering(lab("exposed-server"), "tcp/80", "http", page)
    copy = redacted(scan)
    said = port_of(copy, "tcp/80").said
    assert port_of(copy, "tcp/80").product == port_of(scan, "tcp/80").product is not None
    assert said["http.www-authenticate"] == 'Basic realm="level_15_access"'
    assert said["http.location"] == "http://xxxxxxxxxxxxxxxxxx/"
    assert f"220 {'x' * len('pbx.exposed-server.invalid')} InSciTek" in port_of(copy, "tcp/25").said["smtp.greeting"]


def test_a_scan_that_its_evidence_does_not_bear_out_has_no_copy() -> None:
    with pytest.raises(Problem, match="another result than was saved"):
        redacted(lab("exposed-server").model_copy(update={"verdict": Verdict.GO}))


def test_a_finding_that_was_changed_has_no_copy() -> None:
    scan = lab("exposed-server")
    first, *others = scan.findings
    forged = first.model_copy(update={"status": Status.MET})
    with pytest.raises(Problem, match="another result than was saved"):
        redacted(scan.model_copy(update={"findings": (forged, *others)}))


def test_the_copy_of_what_nmap_said_has_no_packets_and_can_be_verified(tmp_path: Path) -> None:
    scan = nmap_files.read(nmap_files.WHOLE).scan
    made = customer_copy(scan)
    assert (made.capture, made.scan.capture, made.scan.redacted) == (None, "none", True)
    assert judgement(made.scan) == judgement(scan)
    assert sweep.differences(made.scan, sweep.rederive(made.scan)) == []
    assert sweep.disagreements(made.scan, made.capture, "copy") == []
    sweep.write_bundle(tmp_path / "copy.zip", made)


@pytest.mark.parametrize("detail", ["198.256.0.1|1 198.51.100.10|25", "198.51.100.1|99999 198.51.100.10|25"])
def test_a_record_of_addresses_that_are_none_has_no_copy(detail: str) -> None:
    scan = answering(lab("exposed-server"), "tcp/80", "http", b"HTTP/1.0 200 OK\r\n\r\n")
    spoilt = {"detail": detail}
    proofs = tuple(
        proof.model_copy(
            update={"steps": tuple(s.model_copy(update=spoilt) if s.what == "connected" else s for s in proof.steps)}
        )
        for proof in scan.evidence
    )
    with pytest.raises(Problem, match="its evidence is damaged"):
        customer_copy(scan.model_copy(update={"evidence": proofs}))


def test_evidence_that_cannot_be_told_apart_has_no_copy() -> None:
    scan = lab("exposed-server")
    with pytest.raises(Problem, match="two pieces of evidence are called e1"):
        redacted(scan.model_copy(update={"evidence": (*scan.evidence, scan.evidence[0])}))


@pytest.mark.parametrize("damage", [{"received": "\u20ac"}, {"sent": "other words"}, {"steps": ()}])
def test_damaged_evidence_has_no_copy(damage: dict[str, object]) -> None:
    scan = lab("exposed-server")
    proofs = tuple(one.model_copy(update=damage) if one.port == 25 else one for one in scan.evidence)
    with pytest.raises(Problem, match="its evidence is damaged"):
        redacted(scan.model_copy(update={"evidence": proofs}))
