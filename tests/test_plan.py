"""Which questions a target is asked, against section 7 of the design."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from conversations import CALLER, DATAGRAMS, TOKEN

from exposure_scan import plan
from exposure_scan.conversation import Connect
from exposure_scan.model import Authorization, Question, Site, Target
from exposure_scan.protocols import PROBES, conversation

TCP = (21, 22, 23, 25, 53, 80, 110, 143, 443, 465, 587, 993, 995, 1723, 3389, 5060, 5061, 8080, 8081, 8443)
UDP = (53, 69, 123, 161, 500, 1701, 2088, 4500, 5060, 5061)
CANARY = "tcp/4"
# tcp/2000 beside the design: only there a firewall's VoIP helper shows itself.
DESIGN = {"icmp", CANARY, "tcp/2000", *(f"tcp/{port}" for port in TCP), *(f"udp/{port}" for port in UDP)}
V4 = Target(ip_address("198.51.100.10"), (), Authorization(by="test"))
V6 = Target(ip_address("2001:db8::10"), (), Authorization(by="test"))
PLAIN = Site(name="Synthetic site", targets=("198.51.100.10",))
DECLARED = PLAIN.model_copy(
    update={
        "expect": ("udp/5060", "tcp/443", "tcp/2525", "tcp/9000", "udp/5070"),
        "voicemail": {"smtp": 2525, "imap": 1143, "pop3": 110},
    }
)


def keys(asked: tuple[Question, ...]) -> list[str]:
    return [str(question) for question in asked]


def probes(asked: tuple[Question, ...]) -> dict[str, str]:
    return {str(question): question.probe for question in asked}


def test_the_default_plan_is_the_designs_each_once() -> None:
    asked = keys(plan.questions(V4.address, PLAIN))
    assert set(asked) == DESIGN
    assert len(asked) == len(DESIGN)


def test_what_the_bulletin_forbids_is_asked_first() -> None:
    bulletin = ["icmp", "udp/5060", "tcp/5060", "tcp/8080", "tcp/25", "tcp/143"]
    assert keys(plan.questions(V4.address, PLAIN))[: len(bulletin)] == bulletin


@pytest.mark.parametrize(("target", "echo"), [(V4, "echo"), (V6, "echo6")])
@pytest.mark.parametrize("ports", ["default", "wide", (), ("tcp/25",)])
def test_ping_is_asked_once_in_the_words_of_the_family(target: Target, echo: str, ports: str | tuple[str, ...]) -> None:
    asked = plan.questions(target.address, PLAIN, ports)
    assert [(q.transport, q.port, q.probe) for q in asked if q.transport == "icmp"] == [("icmp", 0, echo)]
    assert asked[0].transport == "icmp"


def test_both_families_are_asked_the_same() -> None:
    assert plan.questions(V4.address, DECLARED)[1:] == plan.questions(V6.address, DECLARED)[1:]


@pytest.mark.parametrize(
    "ports", ["default", "wide", (), ("tcp/25",), (CANARY,)], ids=["default", "wide", "nothing", "one", "itself"]
)
def test_the_canary_is_always_asked_once_and_in_silence(ports: str | tuple[str, ...]) -> None:
    asked = [question for question in plan.questions(V4.address, PLAIN, ports) if str(question) == CANARY]
    assert asked == [plan.CANARY]
    assert plan.CANARY.probe == "silent"


def test_nothing_that_the_operator_names_takes_the_canarys_place() -> None:
    site = PLAIN.model_copy(update={"expect": (CANARY,), "voicemail": {"smtp": 4}})
    assert plan.CANARY in plan.questions(V4.address, site)
    assert keys(plan.questions(V4.address, site)).count(CANARY) == 1


def test_declared_ports_are_added_once_and_known_ones_keep_their_words() -> None:
    asked = plan.questions(V4.address, DECLARED)
    assert keys(asked)[: len(DESIGN)] == keys(plan.questions(V4.address, PLAIN))
    assert {str(q): (q.probe, q.why) for q in asked[len(DESIGN) :]} == {
        "tcp/2525": ("greeting", "voicemail, where the operator says it was moved"),
        "tcp/1143": ("greeting", "voicemail, where the operator says it was moved"),
        "tcp/9000": ("any", "a service that the operator expects here"),
        "udp/5070": ("sip-udp", "a service that the operator expects here"),
    }
    assert len(asked) == len(DESIGN) + 4
    assert probes(asked)["tcp/110"] == "greeting"
    assert probes(asked)["tcp/443"] == "tls-http"


def test_wide_is_the_default_plan_and_a_knock_at_every_other_tcp_port_once() -> None:
    asked = plan.questions(V4.address, DECLARED, "wide")
    assert keys(asked) == keys(plan.questions(V4.address, DECLARED))
    swept = plan.swept_ports(asked)
    assert len(swept) == len(set(swept))
    planned = {question.port for question in asked if question.transport == "tcp"}
    assert planned.isdisjoint(swept)
    assert planned | set(swept) == set(range(1, 65536))
    assert plan.swept_ports(asked, "default") == plan.swept_ports(asked, ("tcp/25",)) == ()


def test_a_list_of_keys_is_exactly_those_with_ping_and_canary() -> None:
    asked = plan.questions(V4.address, DECLARED, ("tcp/2525", "udp/5060", "tcp/25", "udp/9999", "tcp/25"))
    assert keys(asked) == ["icmp", "tcp/2525", "udp/5060", "tcp/25", "udp/9999", CANARY]
    assert probes(asked) == {
        "icmp": "echo",
        "tcp/2525": "any",
        "udp/5060": "sip-udp",
        "tcp/25": "greeting",
        "udp/9999": "sip-udp",
        CANARY: "silent",
    }


@pytest.mark.parametrize("key", ["", "25", "icmp", "icmp/0", "sctp/25", "tcp/", "tcp/0", "tcp/65536", "tcp/x"])
def test_a_key_that_is_no_port_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="tcp/25 or udp/5060 is expected"):
        plan.questions(V4.address, PLAIN, ("tcp/25", key))


@pytest.mark.parametrize("word", ["", "Wide", "all", "tcp/25"])
def test_another_word_than_default_and_wide_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="default, wide or a tuple of keys is expected"):
        plan.questions(V4.address, PLAIN, word)


@pytest.mark.parametrize("ports", ["default", ("tcp/9001", "udp/9002")])
@pytest.mark.parametrize("target", [V4, V6], ids=str)
def test_every_question_can_be_held_and_says_why(target: Target, ports: str | tuple[str, ...]) -> None:
    for question in plan.questions(target.address, DECLARED, ports):
        assert question.probe in PROBES, question
        assert isinstance(next(conversation(question.probe, TOKEN, CALLER)), Connect), question
        assert (question.probe in DATAGRAMS) == (question.transport != "tcp"), question
        assert question.why.strip() == question.why != "", question
        assert question.why.isprintable()
        assert not question.why.endswith("."), "a clause, not a sentence"
