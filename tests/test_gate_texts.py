"""Whatever is written as a target, and whatever the DNS says: a problem, or exactly what was authorized."""

from __future__ import annotations

import asyncio
import io
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import pairwise
from pathlib import Path

import dns.resolver
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from name_server import NOW, Said, Server, ask, name
from peers import target
from sites_files import HEAD, only
from witness import watching

from exposure_scan.lab.network import add_address
from exposure_scan.model import Authorization, Problem, Target
from exposure_scan.scope import Order, order_from_words, resolve
from exposure_scan.sweep import scan_site
from exposure_scan.transport import Gate

FENCE = ("198.51.100.0/28", "2001:db8:5::/124")
PBX = "pbx.synthetic.example"
HOME, ASTRAY = "198.18.95.10", "198.18.95.66"
Figure = Callable[[str, int], None]


def order(*targets: str, fence: Sequence[str] = FENCE, internal: bool = False) -> Order:
    made = order_from_words(targets, authorized_by="Synthetic owner", internal=internal, clock=lambda: NOW)
    return replace(made, fence=tuple(map(ip_network, fence)))


def literal(text: str, fence: Sequence[str] = FENCE, *, internal: bool = False) -> tuple[Target, ...]:
    """The targets of a text that needs no name; the resolver that it is given is nobody's."""
    made = order(text, fence=fence, internal=internal)
    return asyncio.run(resolve(made, clock=lambda: NOW, nameservers=(("127.255.255.255", 53),), seconds=1))


# --- addresses in disguise ------------------------------------------------------------------------

DISGUISED = [
    "3325256705", "0xc6336401", "0xC6.0x33.0x64.0x1", "0306.0063.0144.0001", "0306.0x33.0144.1", "198.51.25601",
    "198.3368961", "198.51.100.1.", "198.51.100.01", "198.51.100.1:5060", "198.51.100.1%lo", "[198.51.100.1]",
    "::ffff:198.51.100.1%lo", "[2001:db8:5::1]", "2001:db8:5::1%1", "fe80::1%lo", "fe80::1%25lo",
    "64:ff9b::198.51.100.1", "64:ff9b:1::198.51.100.1", "2002:c633:6401::1", "2001:0:c633:6401::1",
    "::198.51.100.1", "::ffff:0:198.51.100.1", "198。51。100。1", "198．51．100．1", "１98.51.100.1",  # noqa: RUF001
    "198.51.100.\u0661", "198.51.100.\u00b9", "198.51. 100.1", "198.51.100.1 198.51.100.2", "198.51.100.1,198.51.100.2",
    "198.51.100.1\x00", "198.51.100.1\n198.51.100.99", "198.51.100.1/", "198.51.100.1/33", "198.51.100.1/-1",
    "198.51.100.1-2", "198.51.100.0/255.255.255.240", "198.51.100.*", "http://198.51.100.1", "user@198.51.100.1",
    "198.51.100.1#", "::ffff:198.51.100.99", "::ffff:c633:6463", "198.18.0.0/15", "0.0.0.0/0", "::/0",
    "2001:db8:5::/64", "::ffff:198.51.100.0/119", "-iL", "--", "\u212aing.example", "p\u0131x.example",
]  # fmt: skip


@pytest.mark.parametrize("text", DISGUISED, ids=ascii)
def test_an_address_in_disguise_is_no_target(text: str, figure: Figure) -> None:
    figure("gate: targets tried", 1)
    for internal in (False, True):
        with pytest.raises(Problem) as refused:
            literal(text, internal=internal)
        assert "looked up" not in str(refused.value), "the DNS would decide"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("198.51.100.1", "198.51.100.1"),
        (" 198.51.100.1\t", "198.51.100.1"),
        ("\u00a0198.51.100.1\u3000\n", "198.51.100.1"),
        ("::ffff:198.51.100.1", "198.51.100.1"),
        ("::FFFF:C633:6401", "198.51.100.1"),
        ("0:0:0:0:0:ffff:198.51.100.1", "198.51.100.1"),
        ("2001:DB8:5:0::1", "2001:db8:5::1"),
        ("198.51.100.1/32", "198.51.100.1"),
        ("::ffff:198.51.100.1/128", "198.51.100.1"),
    ],
    ids=ascii,
)
def test_an_address_in_another_spelling_is_the_one_inside_the_fence(text: str, address: str, figure: Figure) -> None:
    figure("gate: targets tried", 1)
    assert [str(one) for one in literal(text)] == [address]
    with pytest.raises(Problem, match="outside the fence"):
        literal(text, ["198.51.100.32/28"])


@pytest.mark.parametrize("text", ["198.51.100.0/24", "2001:db8:5::/120", "::ffff:198.51.100.0/120"])
def test_256_addresses_are_the_most_however_they_are_listed(text: str) -> None:
    assert len(literal(text, [])) == 256
    other = "198.18.0.1"
    for targets in ([text, other], [other, text], [f"198.18.{n}.0/25" for n in range(3)]):
        with pytest.raises(Problem, match="more than 256"):
            asyncio.run(resolve(order(*targets, fence=()), clock=lambda: NOW))


def _spellings(address: IPv4Address) -> list[str]:
    """Ways in which some program or other writes an address; the first is the only one for all."""
    number, parts = int(address), list(address.packed)
    return [
        str(address),
        str(number), hex(number), oct(number).replace("o", ""),
        ".".join(hex(part) for part in parts),
        ".".join(f"0{part:o}" for part in parts),
        ".".join(f"{part:03d}" for part in parts),
        f"{parts[0]}.{number & 0xFFFFFF}",
        f"{parts[0]}.{parts[1]}.{number & 0xFFFF}",
        "".join(chr(0x0660 + int(char)) if char.isdigit() else char for char in str(address)),
        f"::ffff:{address}", f"::{address}", f"64:ff9b::{address}", f"2002:{number >> 16:x}:{number & 0xFFFF:x}::",
    ]  # fmt: skip


ADDRESSES = st.one_of(
    st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(0, 31).map(lambda n: IPv4Address("198.51.100.0") + n)
)
WRAPS = st.sampled_from(["{}", " {} ", "{}.", "{}%lo", "[{}]", "{}/32", "{}/28", "{}/8", "{}:53", "{}\x00", "\u200b{}"])
TEXTS = st.one_of(
    st.text(max_size=30),
    st.text(alphabet="0123456789.:/%xXabcdef -[]\u0661\uff11\n", max_size=24),
    st.builds(lambda wrap, text: wrap.format(text), WRAPS, ADDRESSES.flatmap(lambda a: st.sampled_from(_spellings(a)))),
    st.integers(0, 2**128 - 1).map(lambda n: str(IPv6Address(n))),
    st.integers(0, 63).map(lambda n: f"2001:db8:5::{n:x}"),
)


def _plain(address: str) -> bytes:
    """The packed address of a text as the C library reads it, which is another reader than the product's."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    return packed[12:] if packed[:12] == bytes(10) + b"\xff\xff" else packed


@settings(max_examples=1500, deadline=None)
@given(text=TEXTS)
def test_any_text_is_a_problem_or_the_one_address_that_it_spells_inside_the_fence(text: str, figure: Figure) -> None:
    figure("gate: targets tried", 1)
    try:
        found = literal(text, [*FENCE, "198.18.0.0/15"])
    except Problem:
        return
    allowed = [ip_network(one) for one in (*FENCE, "198.18.0.0/15")]
    assert found
    assert all(any(one.address in network for network in allowed) for one in found)
    base, slash, length = text.strip().partition("/")
    if slash:
        bits = (128 if ":" in base else 32) - int(length)
        assert len(found) == 2**bits <= 256
        assert found[0].address.packed == _plain(base)
    else:
        assert [one.address.packed for one in found] == [_plain(base)]


# --- what the DNS says ----------------------------------------------------------------------------

INSIDE = ["198.51.100.3", "198.51.100.4", "2001:db8:5::3", "::ffff:198.51.100.5"]
OUTSIDE = [
    "198.51.100.99", "198.18.0.1", "2001:db8:6::3", "::ffff:198.51.100.99", "64:ff9b::c633:6403", "2002:c633:6403::",
    "127.0.0.1", "10.0.0.1", "169.254.1.1", "::1", "fe80::1", "ff02::1", "224.0.0.1", "0.0.0.0", "::", "::198.51.100.3",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(said=st.lists(st.sampled_from(INSIDE + OUTSIDE), max_size=4, unique=True), chain=st.integers(0, 3))
def test_any_answer_is_a_problem_or_all_of_it_lies_inside_the_fence(
    said: list[str], chain: int, figure: Figure
) -> None:
    figure("gate: targets tried", 1)
    zone = name(f"c{chain}.example" if chain else PBX, *said)
    owners = [PBX, *(f"c{number}.example" for number in range(1, chain + 1))]
    aliases = [f"{one}. CNAME {two}." for one, two in pairwise(owners)]
    zone = {f"{PBX}. {kind}": aliases + list(zone[f"{owners[-1]}. {kind}"] or ()) for kind in ("A", "AAAA")}  # type: ignore[arg-type]
    try:
        found, _ = ask(order(PBX), zone)
    except Problem:
        assert not said or set(said) & set(OUTSIDE)
        return
    assert not set(said) & set(OUTSIDE)
    assert {ip_address(one).packed for one in found} == {_plain(one) for one in said}


@pytest.mark.parametrize(
    "records",
    [
        pytest.param({"A": ["pbx A 198.51.100.3", "pbx A 198.51.100.99"]}, id="inside and outside"),
        pytest.param({"A": ["pbx A 198.51.100.3"], "AAAA": ["pbx AAAA 2001:db8:6::3"]}, id="AAAA outside beside A"),
        pytest.param({"A": ["pbx CNAME away.example.", "away.example. A 198.51.100.99"]}, id="CNAME out of it"),
        pytest.param({"A": ["pbx A 198.51.100.3"], "AAAA": ["pbx AAAA ::ffff:198.51.100.99"]}, id="mapped"),
        pytest.param({"A": ["pbx CNAME pbx"]}, id="CNAME to itself"),
        pytest.param({"A": ["other.example. A 198.51.100.3"]}, id="an answer to another question"),
    ],
)
def test_an_answer_that_leads_out_of_the_fence_refuses_the_whole_order(records: dict[str, list[str]]) -> None:
    zone: dict[str, Said] = {
        f"{PBX}. {kind}": [re.sub(r"\bpbx(?=$| )", f"{PBX}.", row) for row in records.get(kind, [])]
        for kind in ("A", "AAAA")
    }
    with pytest.raises(Problem):
        ask(order("198.51.100.2", PBX), zone)


class Rebinding(dict[str, Said]):
    """A zone that names another address each time that it is asked."""

    def get(self, key: str, default: Said = None) -> Said:  # type: ignore[override]
        first, rest = self[key][:1], self[key][1:]  # type: ignore[index]
        self[key] = rest or first
        return [f"{PBX}. A {first[0]}"] if first else []


@pytest.fixture
def own_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """This computer asks 127.0.0.1 for names."""
    read = dns.resolver.BaseResolver.read_resolv_conf
    monkeypatch.setattr(
        dns.resolver.BaseResolver,
        "read_resolv_conf",
        lambda resolver, _: read(resolver, io.StringIO("nameserver 127.0.0.1\n")),
    )
    for address in (HOME, ASTRAY):
        add_address(address)


@pytest.mark.usefixtures("own_resolver")
def test_a_name_that_changes_its_address_is_scanned_where_it_was_checked() -> None:
    server = Server(Rebinding({f"{PBX}. A": [HOME, ASTRAY], f"{PBX}. AAAA": []}))

    async def main() -> tuple[str, ...]:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=("127.0.0.1", 53))
        try:
            made = order(PBX, fence=["198.18.95.0/24"])  # the fence lets both in: only the first answer may count
            return tuple(host.address for host in (await scan_site(made)).scan.hosts)
        finally:
            transport.close()

    with watching() as witness:
        assert asyncio.run(main()) == (HOME,)
        assert sorted(server.asked) == [f"{PBX}. A", f"{PBX}. AAAA"]
        assert witness.to(HOME) != []
        assert witness.to(ASTRAY) == []


# --- until when -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2026-11-24T13:00:00", datetime(2026, 11, 24, 13, tzinfo=UTC)),
        ("2026-11-24T13:00:00Z", datetime(2026, 11, 24, 13, tzinfo=UTC)),
        ("2026-11-24T13:00:00-08:00", datetime(2026, 11, 24, 21, tzinfo=UTC)),
        ("2026-11-25T03:00:00+14:00", datetime(2026, 11, 24, 13, tzinfo=UTC)),
        ("2026-11-24 13:00:00.250+00:00", datetime(2026, 11, 24, 13, 0, 0, 250_000, UTC)),
        ("2026-11-24", datetime(2026, 11, 24, 23, 59, 59, 999_999, UTC)),
    ],
)
@pytest.mark.parametrize("quote", ["", '"'])
def test_consent_ends_at_the_moment_that_is_written_in_whatever_zone(
    tmp_path: Path, written: str, moment: datetime, quote: str
) -> None:
    made = only(tmp_path, f'{HEAD}[site.authorization]\nby = "Synthetic owner"\nuntil = {quote}{written}{quote}\n')
    assert made.authorization.until == moment
    assert _lasts(made, NOW)
    assert _lasts(made, moment - timedelta(minutes=1))
    assert not _lasts(made, moment + timedelta(microseconds=1))


@pytest.mark.parametrize(
    "written",
    ["13:00:00", "0", "1.5", "true", '"soon"', '"2026-11-31"', "2026-11-24T13:00+25:00", "9999-12-31T23:59:59-12:00"],
)
def test_what_is_no_moment_is_no_end(tmp_path: Path, written: str) -> None:
    with pytest.raises(Problem):
        only(tmp_path, f'{HEAD}[site.authorization]\nby = "Synthetic owner"\nuntil = {written}\n')


def _lasts(made: Order, now: datetime) -> bool:
    """Whether the order leads to targets, and the gate admits them, at this time."""
    try:
        targets = asyncio.run(resolve(made, clock=lambda: now))
        gate = Gate(clock=lambda: now)
        for one in targets:
            gate.admit(one)
    except Problem:
        return False
    return True


@given(st.datetimes(timezones=st.timezones()), st.datetimes(timezones=st.timezones()))
def test_scope_and_gate_are_of_one_mind_about_any_two_moments(until: datetime, now: datetime) -> None:
    consent = Authorization(by="Synthetic owner", until=until)
    if abs(until.timestamp() - now.timestamp()) < 1:
        return
    lives = now.timestamp() < until.timestamp()
    made = replace(order("198.51.100.1"), authorization=consent)
    assert _lasts(made, now) == lives
    gate = Gate(clock=lambda: now)
    try:
        gate.admit(replace(target(), authorization=consent))
        admitted = True
    except Problem:
        admitted = False
    assert admitted == lives
