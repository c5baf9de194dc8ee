"""From an order to targets: consent first, then names, asked of a scripted DNS server."""

from __future__ import annotations

import ast
import asyncio
import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import dns.resolver
import pytest
from name_server import NOW, NXDOMAIN, REFUSED, SERVFAIL, SILENCE, Said, Server, ask, name

from exposure_scan.model import Authorization, Problem
from exposure_scan.scope import Order, order_from_words, resolve

PBX = "pbx.dental.example"
OTHER = "www.dental.example"
CORRECT = "correct the target or the fence. Nothing was sent to it."


def order(*targets: str, fence: Sequence[str] = (), until: str | None = None, internal: bool = False) -> Order:
    made = order_from_words(targets, authorized_by="Synthetic owner", until=until, internal=internal, clock=lambda: NOW)
    return replace(made, fence=tuple(map(ip_network, fence)))


def refused(made: Order, zone: dict[str, Said], *, seconds: float = 5.0, now: datetime = NOW) -> list[str]:
    with pytest.raises(Problem) as caught:
        ask(made, zone, seconds=seconds, now=now)
    return list(caught.value.sentences)


# --- names that lead somewhere -------------------------------------------------------------------


def test_a_name_leads_to_its_addresses_of_both_families() -> None:
    found, asked = ask(order(PBX), name(PBX, "198.51.100.7", "198.51.100.8", "2001:db8::7"))
    assert found == {"198.51.100.7": (PBX,), "198.51.100.8": (PBX,), "2001:db8::7": (PBX,)}
    assert list(found)[2] == "2001:db8::7", "IPv4 first"
    assert sorted(asked) == [f"{PBX}. A", f"{PBX}. AAAA"], "each asked once: what was said is pinned"


@pytest.mark.parametrize("address", ["198.51.100.7", "2001:db8::7"])
def test_one_family_is_enough(address: str) -> None:
    assert ask(order(PBX), name(PBX, address))[0] == {address: (PBX,)}


def test_a_name_may_point_to_another_name() -> None:
    chain = [f"{PBX}. CNAME a.example.", "a.example. CNAME b.example.", "b.example. A 198.51.100.7"]
    zone: dict[str, Said] = {f"{PBX}. A": chain, f"{PBX}. AAAA": chain[:2]}
    assert ask(order(PBX), zone)[0] == {"198.51.100.7": (PBX,)}


def test_an_address_is_one_target_with_all_its_names_in_order() -> None:
    zone = {**name(PBX, "198.51.100.7", "198.51.100.8"), **name(OTHER, "198.51.100.8", "198.51.100.7")}
    found, asked = ask(order(OTHER, "198.51.100.8", PBX, OTHER.upper(), f"{PBX}."), zone)
    assert found == {"198.51.100.8": (OTHER, PBX), "198.51.100.7": (OTHER, PBX)}
    assert len(asked) == 4, "a name written twice, in capitals or with its last dot is asked for once"


def test_a_mapped_address_in_the_dns_is_its_ipv4() -> None:
    zone = name(PBX, "198.51.100.7", "::ffff:198.51.100.7")
    assert ask(order(PBX), zone)[0] == {"198.51.100.7": (PBX,)}


def test_an_idna_name_is_asked_as_it_is_written() -> None:
    found, asked = ask(order("xn--bcher-kva.example"), name("xn--bcher-kva.example", "198.51.100.7"))
    assert found == {"198.51.100.7": ("xn--bcher-kva.example",)}
    assert set(asked) == {"xn--bcher-kva.example. A", "xn--bcher-kva.example. AAAA"}


def test_the_computers_own_resolver_is_asked_for_absolute_names_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a short name means must not depend on the computer's search list."""
    settings = "search dental.example\noptions ndots:5\nnameserver 127.0.0.1\n"
    read = dns.resolver.BaseResolver.read_resolv_conf
    monkeypatch.setattr(
        dns.resolver.BaseResolver, "read_resolv_conf", lambda resolver, _: read(resolver, io.StringIO(settings))
    )
    server = Server(name("pbx.dental.example", "198.51.100.7"))

    async def run() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=("127.0.0.1", 53))
        try:
            await resolve(order("pbx"))
        finally:
            transport.close()

    with pytest.raises(Problem) as caught:
        asyncio.run(run())
    assert caught.value.sentences == ('"pbx" does not exist in the DNS; correct the name, or give the address.',)
    assert set(server.asked) <= {"pbx. A", "pbx. AAAA"}


def test_a_computer_without_a_resolver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", none)
    with pytest.raises(Problem, match="no DNS resolver configured, so names cannot be looked up; give addresses"):
        asyncio.run(resolve(order(PBX)))


# --- names that lead nowhere ---------------------------------------------------------------------

FAILED = "could not be looked up: the resolver failed"
LATER = "try again later, or give the address"


@pytest.mark.parametrize(
    ("four", "six", "sentence"),
    [
        (NXDOMAIN, NXDOMAIN, "does not exist in the DNS; correct the name, or give the address."),
        (
            [], [],
            "exists in the DNS but has no address, neither A nor AAAA; correct the name, or give the address.",
        ),
        (
            [f"{PBX}. CNAME gone.example."], [f"{PBX}. CNAME gone.example."],
            "exists in the DNS but has no address, neither A nor AAAA; correct the name, or give the address.",
        ),
        (SERVFAIL, SERVFAIL, f"{FAILED} (SERVFAIL); {LATER}."),
        (REFUSED, REFUSED, f"{FAILED} (REFUSED); {LATER}."),
        # half an answer is none: the address that is missing would go unscanned
        ([f"{PBX}. A 198.51.100.7"], SERVFAIL, f"{FAILED} (SERVFAIL); {LATER} (asked for its AAAA addresses)."),
        (SERVFAIL, [f"{PBX}. AAAA 2001:db8::7"], f"{FAILED} (SERVFAIL); {LATER} (asked for its A addresses)."),
        (
            SILENCE, SILENCE,
            "could not be looked up: the resolver gave no answer within 0.3 seconds; try again, or give the address.",
        ),
        (
            [f"{PBX}. A 198.51.100.7"], SILENCE,
            ("could not be looked up: the resolver gave no answer within 0.3 seconds; try again, or give the address "
            "(asked for its AAAA addresses)."),
        ),
    ],
    ids=["NXDOMAIN", "NODATA", "dangling CNAME", "SERVFAIL", "REFUSED", "half", "other", "silent", "half silent"],
)  # fmt: skip
def test_why_a_name_leads_nowhere_is_told_apart(four: Said, six: Said, sentence: str) -> None:
    seconds = 0.3 if SILENCE in (four, six) else 5.0
    told = refused(order(PBX, "198.51.100.9"), {f"{PBX}. A": four, f"{PBX}. AAAA": six}, seconds=seconds)
    assert told == [f'"{PBX}" {sentence}']


def test_a_resolver_that_cannot_be_reached_is_told() -> None:
    # the kernel sends nothing to a broadcast address for us
    with pytest.raises(Problem) as caught:
        asyncio.run(resolve(order(PBX), nameservers=(("127.255.255.255", 53),)))
    assert caught.value.sentences == (f'"{PBX}" {FAILED} (Permission denied); {LATER}.',)


def test_all_names_that_fail_are_told_at_once() -> None:
    zone = {**name("a.example"), **name("b.example", "198.51.100.7"), **name("c.example", "198.51.100.99")}
    assert refused(order("a.example", "b.example", "c.example", "d.example", fence=["198.51.100.0/28"]), zone) == [
        '"a.example" exists in the DNS but has no address, neither A nor AAAA; correct the name, or give the address.',
        f'"c.example" leads to 198.51.100.99, which is outside the fence (198.51.100.0/28); {CORRECT}',
        '"d.example" does not exist in the DNS; correct the name, or give the address.',
    ]


# --- names that lead astray ----------------------------------------------------------------------


@pytest.mark.parametrize("address", ["198.51.100.99", "2001:db8::99"])
def test_an_address_outside_the_fence_refuses_the_name(address: str) -> None:
    made = order(PBX, fence=["198.51.100.0/28", "2001:db8::/124"])
    zone = name(PBX, "198.51.100.7", "2001:db8::7", address)
    assert refused(made, zone) == [
        f'"{PBX}" leads to {address}, which is outside the fence (198.51.100.0/28, 2001:db8::/124); {CORRECT}'
    ]


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "100.64.0.1", "::1", "fd00::1", "::ffff:192.168.1.1"])
def test_an_inside_address_in_the_dns_needs_the_word(address: str) -> None:
    plain = address.removeprefix("::ffff:")
    (sentence,) = refused(order(PBX), name(PBX, "198.51.100.7", address))
    assert sentence.startswith(f'"{PBX}" leads to {plain}, which is ')
    assert sentence.endswith("need internal = true in the sites file, or --internal. Nothing was sent to it.")
    assert plain in ask(order(PBX, internal=True), name(PBX, address))[0]


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"])
def test_an_address_that_is_never_scanned_refuses_the_name(address: str) -> None:
    (sentence,) = refused(order(PBX, internal=True), name(PBX, address))
    assert sentence.startswith(f'"{PBX}" leads to {address}, which is ')
    assert sentence.endswith(" and is never scanned. Nothing was sent to it.")


def test_names_may_lead_to_256_addresses_and_no_more() -> None:
    most = name(PBX, *(f"198.18.0.{number}" for number in range(256)))
    assert len(ask(order(PBX), most)[0]) == 256
    assert refused(order(PBX, OTHER), {**most, **name(OTHER, "198.18.1.1")}) == [
        "The targets lead to 257 addresses, and a site may have 256; divide them among several sites."
    ]


# --- consent comes first -------------------------------------------------------------------------


def test_an_authorization_is_live_until_its_last_moment_and_then_nobody_is_asked() -> None:
    made = order(PBX, "127.1.2.3", until="2026-11-24", internal=True)
    zone = name(PBX, "198.51.100.7")
    end = datetime(2026, 11, 25, tzinfo=UTC)
    assert len(ask(made, zone, now=end - timedelta(microseconds=1))[0]) == 2
    with pytest.raises(Problem) as caught:
        ask(made, zone, now=end)
    assert caught.value.sentences == (
        (
            'The authorization by "Synthetic owner" for "pbx.dental.example" expired at 2026-11-24 23:59 UTC; '
            "nothing is sent before it is renewed."
        ),
    )
    assert caught.value.__notes__ == [""], "not even the resolver was asked"


def test_nobody_is_asked_where_an_address_is_refused() -> None:
    with pytest.raises(Problem) as caught:
        ask(order(PBX, "198.51.100.99", fence=["198.51.100.0/28"]), name(PBX, "198.51.100.7"))
    assert caught.value.__notes__ == [""]


@pytest.mark.parametrize("by", ["", "  "])
def test_an_order_without_consent_is_refused(by: str) -> None:
    made = replace(order("198.51.100.7"), authorization=Authorization(by=by))
    with pytest.raises(Problem, match="No authorization: nobody is named who consented"):
        asyncio.run(resolve(made))


def test_an_order_without_targets_is_refused() -> None:
    made = order("198.51.100.7")
    empty = replace(made, site=made.site.model_copy(update={"targets": ()}))
    with pytest.raises(Problem, match="has no target: give an address, a network or a name"):
        asyncio.run(resolve(empty))


# --- the only maker ------------------------------------------------------------------------------


def test_only_this_room_makes_a_target() -> None:
    package = Path(__file__).parent.parent / "exposure_scan"
    makers, aliases = set(), []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func
                word = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
                if word == "Target":
                    makers.add(str(path.relative_to(package)))
            elif isinstance(node, ast.ImportFrom):
                aliases += [path.name for alias in node.names if alias.name == "Target" and alias.asname]
    assert makers == {"scope/names.py"}
    assert aliases == [], "under another name it could not be seen"
