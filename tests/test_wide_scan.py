"""`--ports wide` on the practice site: what was moved is found among the ports that nobody named."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from exposure_scan import plan, scope, sweep
from exposure_scan.model import PortState, Scan, Status
from exposure_scan.report import load_scan


@pytest.fixture(scope="module")
def scan(practice_site: None) -> Scan:
    order = scope.order_from_words(["198.51.100.50"], authorized_by="practice site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "EVERY_PORT", range(1000, 2600))  # all 65,535 take minutes
        return asyncio.run(sweep.scan_site(replace(order, packets_per_second=1000.0), ports="wide")).scan


def test_moved_voicemail_is_found_and_named(scan: Scan) -> None:
    found = {port.key: port.service for port in scan.hosts[0].ports if port.state is PortState.OPEN}
    assert found == {"tcp/5061": "sip", "tcp/1143": "imap", "tcp/2525": "smtp"}
    status = {finding.practice: finding for finding in scan.findings}
    assert status["server.unused-services-off"].status is Status.NOT_MET
    assert "tcp/2525" in status["server.unused-services-off"].because


def test_every_other_port_is_told_in_a_few_lines(scan: Scan) -> None:
    swept = scan.hosts[0].swept
    assert len(swept) < 5
    planned = sum(port.transport == "tcp" and 1000 <= port.port < 2600 for port in scan.hosts[0].ports)
    assert sum(group.number for group in swept) == 1600 - planned
    assert {group.state for group in swept} == {PortState.CLOSED}


def test_the_sweep_comes_out_of_its_evidence_again(scan: Scan) -> None:
    assert sweep.rederive(scan) == scan
    assert load_scan(scan.to_json()) == scan
    (group, *_) = scan.hosts[0].swept
    forged = scan.hosts[0].model_copy(update={"swept": (group.model_copy(update={"state": PortState.OPEN}),)})
    saved = scan.model_copy(update={"hosts": (forged,)})
    assert sweep.differences(saved, sweep.rederive(saved))


def test_the_sweep_says_nothing_to_the_ports_that_it_knocks_at(scan: Scan) -> None:
    knocked = [proof for proof in scan.evidence if proof.purpose == "sweep"]
    assert knocked
    assert all(proof.sent == "" and proof.ports for proof in knocked)
