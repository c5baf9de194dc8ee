"""From answers to a host: which word counts, when silence counts, and what the way did. All synthetic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from exposure_scan.conversation import Event, Exchange, Observation
from exposure_scan.model import Echo, Host, Port, PortState, Purpose, Question, Site
from exposure_scan.sweep.hosts import FIRST_HOP_PORT, Asked, host_of

HOST, ROUTER = "198.51.100.10", "198.51.100.1"
SITE = Site(name="Synthetic site", targets=(HOST,))
AT = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)
WORDS = Observation(service="smtp", banner="220 synthetic", answered=True, valid=True)


def asked(
    key: str,
    state: str,
    reason: str,
    by: str | None = None,
    *,
    tries: int = 3,
    purpose: Purpose = "ask",
    seen: Observation | None = None,
    icmp: tuple[str, ...] = (),
    syn_ack: tuple[int, int] | None = None,
    after: float = 0,
) -> Asked:
    """One exchange; `by` is None where nobody spoke."""
    transport, _, port = key.partition("/")
    kind: Literal["tcp", "udp", "icmp"] = "icmp" if transport == "icmp" else "tcp" if transport == "tcp" else "udp"
    exchange = Exchange(
        question=Question(kind, int(port or 0), "silent"),
        state=Echo(state) if kind == "icmp" else PortState(state),
        reason=reason,
        by=by,
        tries=tries,
        rtt_ms=None,
        observation=seen or Observation(),
        at=AT + timedelta(seconds=after),
        events=tuple(Event(0.0, "icmp", detail=detail) for detail in icmp),
    )
    number = next(_numbers)
    return Asked(exchange, exchange.evidence(f"e{number}", HOST, "00", purpose, syn_ack))


_numbers = iter(range(1, 100_000))


def silence(key: str, tries: int = 3, **more: Any) -> Asked:
    state = {"tcp": "filtered", "udp": "open|filtered", "icmp": "silent"}[key.partition("/")[0]]
    return asked(key, state, "no-response", tries=tries, **more)


def opened(key: str, seen: Observation | None = WORDS, **more: Any) -> Asked:
    return asked(key, "open", "syn-ack", HOST, seen=seen, tries=more.pop("tries", 1), **more)


def refused(key: str, **more: Any) -> Asked:
    return asked(key, "closed", "rst", HOST, tries=more.pop("tries", 1), **more)


def host(*group: Asked) -> Host:
    return host_of(HOST, (), group, SITE)


def ports(*group: Asked) -> dict[str, Port]:
    return {port.key: port for port in host(*group).ports}


# --- silence --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tries", "state"), [(3, "filtered"), (2, "unmeasured"), (1, "unmeasured")])
def test_silence_counts_when_a_miss_is_less_likely_than_one_in_a_thousand(tries: int, state: str) -> None:
    port = ports(silence("tcp/25", tries))["tcp/25"]
    assert port.state == state
    assert (port.confidence is None) == (state == "unmeasured")
    assert port.reason == ("no-response" if state == "filtered" else "too-few-tries")


def test_what_was_asked_again_adds_its_tries_and_its_evidence() -> None:
    first, again = silence("tcp/25", 2), silence("tcp/25", 2, purpose="again")
    port = ports(first, again)["tcp/25"]
    assert (port.state, port.tries) == (PortState.FILTERED, 4)
    assert port.evidence == (first.evidence.id, again.evidence.id)


def test_on_a_lossy_path_silence_needs_more_tries() -> None:
    lossy = [refused(f"tcp/{number}", tries=2) for number in range(1, 21)]  # every second try lost
    path = host(*lossy).path
    assert (path.loss, path.samples) == (0.5, 40)
    assert ports(*lossy, silence("tcp/25", 9))["tcp/25"].state is PortState.UNMEASURED
    port = ports(*lossy, silence("tcp/25", 10))["tcp/25"]
    assert port.state is PortState.FILTERED
    assert port.confidence == pytest.approx(1 - 0.5**10, abs=1e-6)


def test_an_answer_that_came_late_beats_the_silence_before_it() -> None:
    port = ports(silence("tcp/25", 2), opened("tcp/25", purpose="again"))["tcp/25"]
    assert (port.state, port.service, port.confidence) == (PortState.OPEN, "smtp", 1.0)


def test_the_host_s_own_word_beats_a_router_s() -> None:
    router = asked("tcp/25", "filtered", "icmp-host-unreachable", ROUTER)
    assert ports(router, refused("tcp/25", purpose="again"))["tcp/25"].state is PortState.CLOSED


def test_a_router_s_word_and_silence_say_nothing_of_loss() -> None:
    path = host(silence("tcp/25", 5), asked("tcp/80", "filtered", "icmp-admin-prohibited", ROUTER, tries=4)).path
    assert (path.loss, path.samples) == (None, 0)


def test_ports_that_this_network_cannot_ask_stay_unmeasured() -> None:
    port = ports(asked("tcp/25", "unmeasured", "vantage-blind", tries=0))["tcp/25"]
    assert (port.state, port.reason, port.confidence) == (PortState.UNMEASURED, "vantage-blind", None)


# --- alive, and middleboxes -----------------------------------------------------------------------


def test_nothing_proves_a_host_but_what_only_it_can_send() -> None:
    nobody = host(silence("tcp/25"), asked("tcp/80", "filtered", "icmp-host-unreachable", ROUTER), silence("icmp"))
    assert not nobody.alive.proven
    for one in (
        refused("tcp/25"),
        opened("tcp/25", None),
        asked("udp/53", "open", "udp-reply", HOST, seen=WORDS),
        asked("udp/53", "closed", "icmp-port-unreachable", HOST),
        asked("icmp", "replied", "echo-reply", HOST),
    ):
        assert host(silence("tcp/80"), one).alive == host(one).alive
        assert host(one).alive.proven
        assert host(one).alive.evidence == (one.evidence.id,)


def test_a_firewall_that_completes_every_handshake_proves_nothing() -> None:
    seen = host(*(opened(f"tcp/{number}", None) for number in (4, 25, 5060, 8080)), silence("udp/5060"))
    assert seen.path.middlebox is not None
    assert "4 of 4 TCP ports" in seen.path.middlebox
    assert set(seen.path.blurred) == {"tcp/4", "tcp/25", "tcp/5060", "tcp/8080"}
    assert not seen.alive.proven


def test_so_does_one_whose_canary_was_lost() -> None:
    many = [opened(f"tcp/{number}", None) for number in range(20, 28)]
    seen = host(silence("tcp/4"), *many)
    assert len(seen.path.blurred) == 8
    assert not seen.alive.proven
    assert host(silence("tcp/4"), *many[:7]).path.blurred == ()
    assert host(*many, *(refused(f"tcp/{number}") for number in range(30, 38))).path.blurred == ()


def test_a_port_that_speaks_behind_such_a_firewall_is_itself() -> None:
    seen = host(opened("tcp/4", None), opened("tcp/25"), opened("tcp/80", None))
    assert seen.alive.proven
    assert seen.path.blurred == ("tcp/4", "tcp/80")


def test_a_voip_helper_is_known_by_2000_beside_5060_and_blurs_only_these() -> None:
    seen = host(opened("tcp/5060", None), opened("tcp/2000", None), opened("tcp/3389", None), silence("tcp/4"))
    assert seen.path.middlebox is not None
    assert "VoIP helper" in seen.path.middlebox
    assert set(seen.path.blurred) == {"tcp/5060", "tcp/2000"}
    assert seen.alive.proven, "3389 is nobody's helper"
    assert not host(opened("tcp/5060", None), opened("tcp/2000", None), silence("tcp/4")).alive.proven


def test_where_nothing_but_a_helper_s_port_answers_it_may_be_a_helper() -> None:
    for key in ("tcp/5060", "tcp/2000"):
        seen = host(opened(key, None), *(silence(other) for other in ("tcp/4", "tcp/25", "icmp")))
        assert seen.path.blurred == (key,)
        assert not seen.alive.proven
        live = host(opened(key, None), refused("tcp/25"))
        assert live.path.middlebox is None
        assert live.alive.proven


def test_sip_in_words_on_5060_is_no_helper() -> None:
    sip = Observation(service="sip", banner="SIP/2.0 200 OK", answered=True, valid=True)
    seen = host(opened("tcp/5060", sip), opened("tcp/2000", None), refused("tcp/4"))
    assert seen.path.middlebox is None
    assert {port.key: port.service for port in seen.ports}["tcp/5060"] == "sip"


def test_a_handshake_that_differs_from_the_others_is_noted_on_its_port() -> None:
    seen = ports(
        opened("tcp/25", syn_ack=(52, 64240)),
        opened("tcp/80", syn_ack=(52, 64240)),
        opened("tcp/143", syn_ack=(52, 1024)),
        opened("tcp/5060", None, syn_ack=(61, 64240)),
    )
    assert seen["tcp/25"].notes == ()
    assert "TTL 61" in seen["tcp/5060"].notes[0]
    assert "window of 1024" in seen["tcp/143"].notes[0]


# --- the way --------------------------------------------------------------------------------------


def test_what_routers_said_is_counted_by_sender_type_and_code() -> None:
    said = f"type=3 code=13 from={ROUTER}"
    path = host(
        asked("tcp/25", "filtered", "icmp-admin-prohibited", ROUTER, icmp=(said, said)),
        asked("udp/53", "closed", "icmp-port-unreachable", HOST, icmp=(f"type=3 code=3 from={HOST}",)),
    ).path
    (error,) = path.errors
    assert (error.by, error.type, error.code, error.reason, error.times) == (
        ROUTER,
        3,
        13,
        "icmp-admin-prohibited",
        2,
    )


def hop(ttl: int, by: str | None, reason: str) -> Asked:
    state = "filtered" if by else "open|filtered"
    return asked(f"udp/{FIRST_HOP_PORT + ttl - 1}", state, reason, by, purpose="path")


def test_the_farthest_router_that_spoke_is_the_last_hop() -> None:
    hops = [hop(n, f"198.51.100.{n}", "icmp-time-exceeded") for n in (1, 2, 3)]
    found = host(*hops, hop(4, None, "no-response")).path.last_hop
    assert found is not None
    assert (found.ttl, found.address, found.reason) == (3, "198.51.100.3", "icmp-time-exceeded")
    assert host(silence("tcp/25")).path.last_hop is None


def test_a_router_that_says_host_unreachable_is_named() -> None:
    hops = [hop(1, "198.51.100.1", "icmp-time-exceeded"), *(hop(n, ROUTER, "icmp-host-unreachable") for n in (2, 3))]
    found = host(*hops).path.last_hop
    assert found is not None
    assert (found.ttl, found.reason) == (2, "icmp-host-unreachable")


def test_a_port_that_answered_and_is_silent_at_the_end_went_dark() -> None:
    answered = opened("tcp/25")
    last = silence("tcp/25", purpose="still-there", after=4)
    dark = host(answered, silence("tcp/80"), last).path.dark
    assert dark is not None
    assert (dark.port, dark.answered, dark.silent) == ("tcp/25", AT, AT + timedelta(seconds=4))
    assert dark.evidence == (last.evidence.id, answered.evidence.id)


def test_one_answer_at_the_end_is_enough() -> None:
    last = (silence("tcp/25", purpose="still-there"), opened("tcp/25", purpose="still-there"))
    assert host(opened("tcp/25"), silence("tcp/80"), *last).path.dark is None
    assert host(opened("tcp/25"), silence("tcp/80")).path.dark is None
