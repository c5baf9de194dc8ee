"""Every example in the practice file is a test, and the file keeps to its editorial rules.

The short form of an example is explained at the head of the practice file; `build` turns it into a
host and a site.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from importlib.resources import files
from typing import Any

import pytest

from exposure_scan.assess import BULLETIN, Example, Practice, assess_host, practices
from exposure_scan.assess.bulletin import read
from exposure_scan.model import (
    Alive,
    Declaration,
    Device,
    DeviceClass,
    Echo,
    Host,
    Path,
    Port,
    PortState,
    Presence,
    Site,
    Status,
    Support,
)

ON = datetime(2026, 11, 24, 12, tzinfo=UTC)
# every port that a check may want to see shut
TCP = (21, 25, 80, 143, 443, 465, 587, 993, 5060, 5061, 8080)
REST = (*(f"tcp/{number}" for number in TCP), "udp/5060", "udp/5061")
KEYS = {"ports", "rest", "alive", "present", "echo", "seen", "device", "version", "software", "expect"}
KEYS |= {"voicemail", "declares", "middlebox", "hint"}


def build_port(text: str) -> Port:
    """``udp/5060 open sip | sip.contact = <sip:10.0.0.1> | class = other``."""
    head, *rest = text.split(" | ")
    key, state, *service = head.split(" ")
    transport, number = key.split("/")
    facts: dict[str, str] = {}
    for item in rest:
        name, _, value = item.partition(" = ")
        facts[name] = value
    cls = facts.pop("class", None)
    values: dict[str, Any] = {
        "transport": transport,
        "port": int(number),
        "state": PortState(state),
        "reason": facts.pop("reason", "synthetic"),
        "tries": int(facts.pop("tries", "3")),
        "service": service[0] if service else None,
        "product": facts.pop("product", None),
        "banner": facts.pop("banner", None),
        "device": None if cls is None else Device(class_=DeviceClass(cls), confidence=0.9),
        "evidence": (f"e-{key}",),
        "said": facts,
    }
    return Port(**values)


def build(given: dict[str, Any]) -> tuple[Host, Site]:
    assert not set(given) - KEYS, "an example with a word that means nothing"
    ports = [build_port(text) for text in given.get("ports", ())]
    if "rest" in given:
        known = {port.key for port in ports}
        states = {"closed": ("closed", "closed"), "filtered": ("filtered", "open|filtered")}[given["rest"]]
        ports += [build_port(f"{key} {states[key.startswith('udp')]}") for key in REST if key not in known]
    seen = DeviceClass(given.get("seen", "allworx-server" if "version" in given else "unknown"))
    version = given.get("version")
    row = {"fingerprint": "synthetic", "says": seen, "field": "http.title", "value": f"synthetic {version}"}
    hint = Support(**row, confidence=0.6, heuristic=True) if given.get("hint") else None
    device = Device(class_=seen, confidence=0.9, version=version, support=() if hint is None else (hint,))
    host = Host(
        address="198.51.100.10",
        alive=Alive(proven=given.get("alive", True), by="it answered ping"),
        echo=Echo(given.get("echo", "silent")),
        echo_evidence=("e-icmp",),
        device=device,
        ports=tuple(ports),
        path=Path(
            middlebox="the canary is open" if given.get("middlebox") else None,
            blurred=tuple(p.key for p in ports if p.banner is None and p.service is None)
            if given.get("middlebox")
            else (),
        ),
    )
    site = Site(
        name="Synthetic site",
        targets=(host.address,),
        device=DeviceClass(given["device"]) if "device" in given else None,
        software=given.get("software"),
        expect=tuple(given.get("expect", ())),
        voicemail=given.get("voicemail", {}),
        present=Presence(by="the installer", on=ON) if given.get("present") else None,
        declares={id_: Declaration(by="the operator", on=date(2026, 11, 1)) for id_ in given.get("declares", ())},
    )
    return host, site


def cases() -> Iterator[Any]:
    for practice in practices():
        for number, example in enumerate(practice.examples, 1):
            yield pytest.param(practice, example, id=f"{practice.id}-{number}")


@pytest.mark.parametrize(("practice", "example"), list(cases()))
def test_an_example_of_the_file(practice: Practice, example: Example) -> None:
    host, site = build(dict(example.given))
    (finding,) = (f for f in assess_host(host, site, ON) if f.practice == practice.id)
    assert finding.status is example.status, finding.because
    assert finding.because.endswith(".")


def test_the_file_is_the_table_of_the_design() -> None:
    """Id, how it is known and severity, as section 6 of the design has them."""
    table = {
        "sip.not-reachable": "observed critical",
        "password.admin": "declared critical",
        "password.users": "declared high",
        "password.require-change": "declared medium",
        "password.pnp-secret-key": "declared high",
        "password.phone-admin": "declared critical",
        "password.generic-sip": "declared high",
        "pnp.lan-creation-off": "declared medium",
        "pnp.wan-creation-off": "declared high",
        "pnp.assign-user-off": "declared low",
        "network.wan-admin-off": "partly critical",
        "server.behind-firewall-or-wan-port": "partly critical",
        "server.lan-port-not-public": "partly critical",
        "server.no-forward-to-lan-port": "partly critical",
        "server.unused-services-off": "observed high",
        "server.voicemail-ports-moved": "observed high",
        "server.admin-page-hidden": "observed critical",
        "server.vpn-for-maintenance": "partly medium",
        "server.nat-firewall": "partly high",
        "server.stealth": "observed medium",
        "software.supported": "observed high",
        "handset.behind-firewall": "observed critical",
        "px.admin-password": "declared critical",
        "px.behind-firewall": "observed critical",
    }
    assert {p.id: f"{p.known} {p.severity}" for p in practices()} == table
    assert [p.id for p in practices()] == list(table)


@pytest.mark.parametrize("practice", practices(), ids=lambda practice: practice.id)
def test_examples_show_every_way_a_practice_can_stand(practice: Practice) -> None:
    shown = {example.status for example in practice.examples}
    if practice.known == "observed":
        assert shown >= {Status.NOT_MET, Status.MET}
        assert Status.CANNOT_TELL in shown or Status.UNDECLARED in shown
    elif practice.known == "partly":
        assert shown - {Status.NOT_APPLICABLE} == {Status.NOT_MET, Status.DECLARED, Status.UNDECLARED}
    else:
        assert shown >= {Status.DECLARED, Status.UNDECLARED}


@pytest.mark.parametrize("practice", practices(), ids=lambda practice: practice.id)
def test_an_owner_can_read_it(practice: Practice) -> None:
    for sentence in re.split(r"(?<=[.:]) ", f"{practice.why} {practice.remedy}"):
        assert len(sentence.split()) <= 35, sentence
    assert practice.why.endswith(".")
    assert practice.remedy.endswith(".")
    assert not practice.title.endswith(".")


def text_of_file() -> str:
    return files("exposure_scan").joinpath("data", "practices", f"allworx-{BULLETIN}.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("was", "becomes", "complaint"),
    [
        ('id = "password.users"', 'id = "password.admin"', "used twice"),
        ('severity = "low"', 'severity = "tiny"', "severity"),
        ('known = "partly"', 'known = "guessed"', "known"),
        ('check = "answers-ping"', 'check = "answers-pong"', "no check 'answers-pong'"),
        ('check = "answers-ping"', "", "a check belongs"),
        ("Open Servers > VoIP > modify and check", "Check", "menu path"),
        ('title = "Strangers', f'title = "{"x" * 90}Strangers', "title"),
        ('why = "Fraudsters', f'why = "{"x" * 400}Fraudsters', "why"),
        ('part = "Overview"', 'part = "Overview"\ncolour = "red"', "colour"),
        ('applies_to = ["all"]', 'applies_to = ["router"]', "applies_to"),
        ("revised = 2014-05-23", "revised = 2014-05-24", "head"),
        ('status = "undeclared"', 'status = "perhaps"', "status"),
    ],
)
def test_the_loader_refuses_a_file_that_breaks_a_rule(was: str, becomes: str, complaint: str) -> None:
    text = text_of_file()
    assert was in text
    with pytest.raises(ValueError, match=complaint):
        read(text.replace(was, becomes, 1), "broken.toml")
