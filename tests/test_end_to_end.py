"""From an order to a verdict and back, over the real sockets of the practice site."""

from __future__ import annotations

import asyncio
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exposure_scan import assess, evidence, lab, scope, sweep
from exposure_scan.model import DeviceClass, Echo, Port, PortState, Problem, Scan, Status, Vantage, Verdict
from exposure_scan.report import load_scan


@pytest.fixture(scope="module")
def results(practice_site: None) -> dict[str, sweep.Result]:
    orders = scope.read_sites_file(lab.sites_file()).orders

    async def scan_all() -> dict[str, sweep.Result]:
        found = {}
        async for order, result in sweep.scan_sites(orders):
            assert isinstance(result, sweep.Result), result
            found[order.site.name] = result
        return found

    return asyncio.run(scan_all())


def order(target: str, **words: str) -> scope.Order:
    return scope.order_from_words([target], authorized_by="practice site", **words)  # type: ignore[arg-type]


def broken(scan: Scan) -> set[str]:
    return {finding.practice for finding in scan.findings if finding.status is Status.NOT_MET}


def ports(scan: Scan) -> dict[str, Port]:
    return {port.key: port for host in scan.hosts for port in host.ports}


# --- what each practice site comes out as ---------------------------------------------------------


def test_the_exposed_server_breaks_exactly_what_its_services_break(results: dict[str, sweep.Result]) -> None:
    scan = results["exposed-server"].scan
    assert scan.verdict is Verdict.NO_GO
    assert broken(scan) == {
        "sip.not-reachable",
        "network.wan-admin-off",
        "server.unused-services-off",
        "server.voicemail-ports-moved",
        "server.admin-page-hidden",
        "server.vpn-for-maintenance",
        "server.stealth",
    }
    (host,) = scan.hosts
    assert host.device.class_ is DeviceClass.SERVER
    assert not host.device.declared
    assert host.echo is Echo.REPLIED
    found = {key: port.service for key, port in ports(scan).items() if port.state is PortState.OPEN}
    assert found == {
        "udp/5060": "sip",
        "tcp/5060": "sip",
        "tcp/25": "smtp",
        "tcp/143": "imap",
        "tcp/110": "pop3",
        "tcp/80": "http",
        "tcp/8080": "http",
    }


def test_a_handset_and_a_px_are_told_by_evidence_and_by_declaration(results: dict[str, sweep.Result]) -> None:
    handset, px = results["remote-handset"].scan, results["px-expander"].scan
    assert handset.hosts[0].device.class_ is DeviceClass.HANDSET
    assert not handset.hosts[0].device.declared
    assert broken(handset) == {"sip.not-reachable", "handset.behind-firewall"}
    assert px.hosts[0].device.class_ is DeviceClass.PX
    assert px.hosts[0].device.declared
    assert broken(px) == {"sip.not-reachable", "px.behind-firewall"}


def test_voicemail_that_was_moved_and_declared_is_no_breach(results: dict[str, sweep.Result]) -> None:
    scan = results["moved-voicemail"].scan
    status = {finding.practice: finding.status for finding in scan.findings}
    assert status["server.voicemail-ports-moved"] is Status.MET
    assert broken(scan) == {"sip.not-reachable", "server.unused-services-off", "server.stealth"}
    assert ports(scan)["tcp/1143"].tls is not None, "STARTTLS was followed and its certificate read"


def test_silence_is_inconclusive_until_a_person_confirms_the_site(results: dict[str, sweep.Result]) -> None:
    silent = results["silent-site"].scan
    assert silent.verdict is Verdict.INCONCLUSIVE
    assert not silent.hosts[0].alive.proven
    confirmed = order("198.51.100.40", device="server", present="practice technician (synthetic)")
    scan = asyncio.run(sweep.scan_site(confirmed)).scan
    assert scan.verdict is Verdict.GO
    assert any("practice technician (synthetic)" in sentence for sentence in scan.because)


def test_an_ipv6_address_is_scanned_and_judged_like_an_ipv4_one(results: dict[str, sweep.Result]) -> None:
    scan = asyncio.run(sweep.scan_site(order("2001:db8::10"))).scan
    assert broken(scan) == broken(results["exposed-server"].scan)
    assert scan.hosts[0].echo is Echo.REPLIED


def test_every_finding_cites_evidence_that_is_there(results: dict[str, sweep.Result]) -> None:
    for result in results.values():
        there = {proof.id for proof in result.scan.evidence}
        cited = [
            *(finding.evidence for finding in result.scan.findings),
            *(port.evidence for host in result.scan.hosts for port in host.ports),
        ]
        assert {one for ids in cited for one in ids} <= there
        assert all(
            finding.evidence for finding in result.scan.findings if finding.status in (Status.NOT_MET, Status.MET)
        )


# --- choices of the operator ----------------------------------------------------------------------


def test_a_list_of_ports_asks_those_with_ping_and_the_canary(practice_site: None) -> None:
    scan = asyncio.run(sweep.scan_site(order("198.51.100.10"), ports=("tcp/25",))).scan
    assert set(ports(scan)) == {"tcp/25", "tcp/4"}


def test_what_was_not_asked_cannot_become_a_go(practice_site: None) -> None:
    scan = asyncio.run(sweep.scan_site(order("198.51.100.50", device="server"), ports=("tcp/25",))).scan
    assert scan.verdict is Verdict.INCONCLUSIVE


def test_expected_services_are_no_breach(practice_site: None) -> None:
    scan = asyncio.run(sweep.scan_site(order("198.51.100.50", expect="tcp/5061,tcp/2525,tcp/1143"))).scan
    assert scan.verdict is Verdict.GO
    assert broken(scan) == {"server.stealth"}


def test_a_network_of_addresses_gives_a_host_each(practice_site: None) -> None:
    scan = asyncio.run(sweep.scan_site(order("198.51.100.10/31"), ports=("udp/5060",))).scan
    assert [(host.address, host.alive.proven) for host in scan.hosts] == [
        ("198.51.100.10", True),
        ("198.51.100.11", False),
    ]


def test_an_internal_scan_says_that_it_is_no_outside_view() -> None:
    words: scope.Words = {"internal": True}
    inside = scope.order_from_words(["127.0.0.1"], authorized_by="practice site", **words)
    result = asyncio.run(sweep.scan_site(inside, ports=("tcp/25",)))
    assert not result.scan.vantage.outside
    assert "outside" in " ".join(result.scan.because) or b"outside" in sweep.render(result.scan, "html")


def test_progress_is_told_to_the_end(practice_site: None) -> None:
    told: list[sweep.Progress] = []
    asyncio.run(sweep.scan_site(order("198.51.100.10"), ports=("tcp/25", "tcp/80"), notice=told.append))
    assert [notice.done for notice in told] == [0, 1, 2, 3, 4]
    assert {notice.of for notice in told} == {4}


def test_one_site_that_fails_does_not_stop_the_others(practice_site: None) -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    good = order("198.51.100.20")
    bad = order("198.51.100.10")
    bad = replace(bad, authorization=bad.authorization.model_copy(update={"until": past}))

    async def scan_both() -> list[sweep.Result | Exception]:
        return [result async for _, result in sweep.scan_sites([bad, good])]

    kinds = {type(result) for result in asyncio.run(scan_both())}
    assert kinds == {sweep.Result, Problem}


# --- the same findings once more ------------------------------------------------------------------


def test_the_saved_evidence_alone_gives_the_same_scan(results: dict[str, sweep.Result]) -> None:
    for result in results.values():
        saved = load_scan(result.scan.to_json())
        assert saved == result.scan
        assert sweep.differences(saved, sweep.rederive(saved)) == []


CHANGES: dict[str, Callable[[Scan], dict[str, object]]] = {
    "verdict": lambda scan: {"verdict": Verdict.GO},
    "a finding": lambda scan: {
        "findings": tuple(
            finding.model_copy(update={"status": Status.MET}) if finding.practice == "sip.not-reachable" else finding
            for finding in scan.findings
        )
    },
    "a reason": lambda scan: {"because": ("All is well.",)},
    "a port that was open": lambda scan: {"hosts": (_with_port(scan, {"state": PortState.CLOSED}),)},
    "a banner": lambda scan: {"hosts": (_with_port(scan, {"banner": "220 other"}),)},
    "a port left out": lambda scan: {"hosts": (scan.hosts[0].model_copy(update={"ports": scan.hosts[0].ports[1:]}),)},
    "a word of the peer": lambda scan: {
        "evidence": tuple(
            proof.model_copy(update={"received": proof.received.replace("OIS", "OIZ")}) for proof in scan.evidence
        )
    },
    "a word of ours": lambda scan: {
        "evidence": tuple(
            proof.model_copy(update={"sent": proof.sent.replace("OPTIONS", "OPTIANS")}) for proof in scan.evidence
        )
    },
}


def _with_port(scan: Scan, update: dict[str, object]) -> object:
    (host,) = scan.hosts
    changed = tuple(port.model_copy(update=update) if port.key == "tcp/25" else port for port in host.ports)
    return host.model_copy(update={"ports": changed})


@pytest.mark.parametrize("what", CHANGES)
def test_a_scan_that_was_changed_after_the_fact_is_found_out(what: str, results: dict[str, sweep.Result]) -> None:
    scan = results["exposed-server"].scan
    changed = scan.model_copy(update=CHANGES[what](scan))
    try:
        found = sweep.differences(changed, sweep.rederive(changed))
    except (ValueError, Exception) as error:
        found = [str(error)]
    assert found, what


def test_a_site_s_folder_holds_the_report_the_scan_and_a_bundle_that_says_the_same(
    results: dict[str, sweep.Result], tmp_path: Path
) -> None:
    result = results["exposed-server"]
    sweep.write_site(tmp_path / "exposed-server", result)
    folder = tmp_path / "exposed-server"
    assert {path.name for path in folder.iterdir()} == {"scan.json", "report.html", "evidence.zip"}
    assert json.loads((folder / "scan.json").read_text())["verdict"] == "no-go"
    bundle = evidence.read_bundle(folder / "evidence.zip")
    assert bundle.scan == (folder / "scan.json").read_text()
    assert bundle.capture == result.capture
    with zipfile.ZipFile(folder / "evidence.zip") as archive:
        assert archive.testzip() is None


def test_each_practice_is_judged_on_each_site(results: dict[str, sweep.Result]) -> None:
    ids = [practice.id for practice in assess.practices()]
    assert len(ids) == 24
    for result in results.values():
        assert sorted(finding.practice for finding in result.scan.findings) == sorted(ids)


# --- blind spots of our own -----------------------------------------------------------------------


def test_a_port_that_this_network_cannot_ask_holds_back_a_go(practice_site: None) -> None:
    words: scope.Words = {"device": "server", "present": "practice technician (synthetic)"}
    silent = scope.order_from_words(["198.51.100.40"], authorized_by="practice site", **words)
    blind = Vantage(name="lab", checked=True, blind=("tcp/25",), forged=("tcp/143",))
    scan = asyncio.run(sweep.scan_site(replace(silent, vantage=blind))).scan
    assert scan.verdict is Verdict.INCONCLUSIVE
    seen = ports(scan)
    assert (seen["tcp/25"].state, seen["tcp/25"].reason) == (PortState.UNMEASURED, "vantage-blind")
    assert (seen["tcp/143"].state, seen["tcp/143"].reason) == (PortState.UNMEASURED, "vantage-forged")
    assert sweep.differences(scan, sweep.rederive(scan)) == []


def test_a_silent_host_is_asked_for_its_way_and_an_answering_one_is_not(results: dict[str, sweep.Result]) -> None:
    asked = {name: {proof.purpose for proof in result.scan.evidence} for name, result in results.items()}
    assert "path" in asked["silent-site"]
    assert "path" not in asked["exposed-server"]


def test_the_presence_counts_for_a_day_only(practice_site: None) -> None:
    confirmed = order("198.51.100.40", device="server", present="practice technician (synthetic)")
    present = confirmed.site.present
    assert present is not None
    old = present.model_copy(update={"on": present.on - timedelta(hours=25)})
    late = replace(confirmed, site=confirmed.site.model_copy(update={"present": old}))
    scan = asyncio.run(sweep.scan_site(late)).scan
    assert scan.verdict is Verdict.INCONCLUSIVE
    assert "counted until" in scan.because[0]
