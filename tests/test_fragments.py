"""Packets that came in fragments, and those that ICMP errors quote."""

from __future__ import annotations

import random
import struct

import pytest
from capture_files import FOUR, ICMP, SIX, START, UDP, ip4, ip6, of, pcap, read, udp
from hypothesis import given, settings
from hypothesis import strategies as st


def fragments4(body: bytes, sizes: list[int], protocol: int = UDP, identification: int = 7) -> list[bytes]:
    """The packet in fragments of these many times eight bytes; the rest is the last one."""
    raws, at = [], 0
    for size in sizes:
        if at + size * 8 >= len(body):
            break
        piece = body[at : at + size * 8]
        raws.append(ip4(piece, protocol, fragment=0x2000 | at // 8, identification=identification))
        at += size * 8
    return [*raws, ip4(body[at:], protocol, fragment=at // 8, identification=identification)]


def fragment6(piece: bytes, offset: int, more: bool, following: int = UDP, identification: int = 7) -> bytes:
    return ip6(struct.pack("!BBHI", following, 0, offset | more, identification) + piece, 44)


def fragments6(body: bytes, sizes: list[int], following: int = UDP, identification: int = 7) -> list[bytes]:
    raws, at = [], 0
    for size in sizes:
        if at + size * 8 >= len(body):
            break
        raws.append(fragment6(body[at : at + size * 8], at, True, following, identification))
        at += size * 8
    return [*raws, fragment6(body[at:], at, False, following, identification)]


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(min_size=9, max_size=200),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=8),
    six=st.booleans(),
    twice=st.booleans(),
    order=st.randoms(use_true_random=False),
)
def test_fragments_in_any_order_make_the_packet_and_name_their_frames(
    data: bytes, sizes: list[int], six: bool, twice: bool, order: random.Random
) -> None:
    raws = (fragments6 if six else fragments4)(udp(data), sizes)
    order.shuffle(raws)
    if twice:
        raws.insert(1, raws[0])  # a copy of a fragment changes nothing
    packet = read(of(*raws))[0]
    frames = set(range(1, len(raws) + 1)) - ({2} if twice and len(raws) > 2 else set())
    if len(raws) > 2 or not twice:
        assert (packet.body, packet.protocol, packet.cut) == (udp(data), UDP, False)
        assert packet.frames == tuple(sorted(frames))
        assert packet.at == pytest.approx(START + (len(raws) - 1) / 1000)


def test_fragments_of_two_packets_do_not_mix() -> None:
    one, two = (fragments4(udp(letter * 40), [3], identification=number) for number, letter in ((1, b"a"), (2, b"b")))
    packets = read(of(one[0], two[0], two[1], one[1]))
    assert [packet.body for packet in packets] == [udp(b"b" * 40), udp(b"a" * 40)]
    assert [packet.frames for packet in packets] == [(2, 3), (1, 4)]


def test_where_ipv4_fragments_overlap_the_first_to_come_counts() -> None:
    body = udp(b"a" * 24)
    raws = [
        ip4(body[:16], fragment=0x2000),
        ip4(b"X" * 16, fragment=0x2001),  # 8 bytes over the first
        ip4(b"last 8 b", fragment=3),
    ]
    (packet,) = read(of(*raws))
    assert packet.body == body[:16] + b"X" * 8 + b"last 8 b"


def test_an_ipv6_packet_whose_fragments_overlap_is_dropped_for_good() -> None:
    body = udp(b"a" * 24)
    raws = [fragment6(body[:16], 0, True), fragment6(b"X" * 16, 8, True), fragment6(body[16:], 16, False)]
    assert read(of(*raws)) == []
    assert read(of(*raws[::-1])) == []


@pytest.mark.parametrize(
    "headers",
    [
        [(0, 0)],  # hop-by-hop
        [(0, 1), (60, 0), (43, 2)],  # and destination options, and routing
        [(51, 4)],  # AH: its length counts in four bytes
        [(44, None)],  # a fragment that is the whole packet (RFC 6946)
        [(0, 0), (44, None), (60, 3)],
    ],
)
def test_the_extension_headers_of_ipv6_are_passed(headers: list[tuple[int, int | None]]) -> None:
    body = udp(b"OPTIONS")
    following = UDP
    for kind, units in reversed(headers):
        size = 8 if units is None else (units + 2) * 4 if kind == 51 else (units + 1) * 8
        body = (bytes([following, units or 0]) + bytes(size - 2)) + body
        following = kind
    (packet,) = read(of(ip6(body, following)))
    assert (packet.protocol, packet.body) == (UDP, udp(b"OPTIONS"))


def test_an_ipv6_fragment_that_is_the_whole_packet_has_nothing_to_do_with_others_of_its_number() -> None:
    first, last = fragments6(udp(b"a" * 40), [3])
    packets = read(of(first, fragment6(udp(b"alone"), 0, False), last))  # RFC 6946
    assert [packet.body for packet in packets] == [udp(b"alone"), udp(b"a" * 40)]


def test_options_before_and_behind_the_header_of_ipv6_fragments_are_passed() -> None:
    body = bytes([UDP, 0]) + bytes(6) + udp(b"a" * 40)
    first, second = fragments6(body, [3], following=60)
    before = [raw[:40] + bytes([44, 0]) + bytes(6) + raw[40:] for raw in (first, second)]
    before = [raw[:4] + struct.pack("!HB", len(raw) - 40, 0) + raw[7:] for raw in before]
    (packet,) = read(of(before[1], before[0]))
    assert (packet.protocol, packet.body, packet.frames) == (UDP, udp(b"a" * 40), (1, 2))


@pytest.mark.parametrize("six", [False, True])
def test_of_a_packet_that_misses_a_fragment_there_is_the_beginning_and_it_is_marked(six: bool) -> None:
    first, _, third = (fragments6 if six else fragments4)(udp(b"SIP/2.0 200 OK\r\n" * 4), [3, 3])
    (packet,) = read(of(third, first))
    assert (packet.body, packet.cut, packet.frames) == (udp(b"SIP/2.0 200 OK\r\n" * 4)[:24], True, (1, 2))
    assert read(of(third)) == []  # no beginning, no packet


def test_a_fragment_that_comes_a_minute_later_is_of_another_packet() -> None:
    old, new = fragments4(udp(b"o" * 40), [3]), fragments4(udp(b"n" * 40), [3])
    packets = read(pcap([(0, old[0]), (60, new[0]), (60.1, new[1])]))
    assert [(packet.body, packet.cut) for packet in packets] == [
        (udp(b"o" * 40)[:24], True),
        (udp(b"n" * 40), False),
    ]


def test_packets_that_never_become_whole_do_not_pile_up() -> None:
    raws = [fragments4(udp(b"x" * 1400), [100], identification=number)[0] for number in range(3000)]
    packets = read(pcap([*((0.0, raw) for raw in raws), (0.0, FOUR)]))
    place = [packet.body for packet in packets].index(udp(b"OPTIONS"))
    assert place >= 3000 - 1024
    assert len(packets) == 3001


@pytest.mark.parametrize(
    "fragment", [ip4(b"x" * 64, fragment=0x1FFF), ip4(b"x" * 7, fragment=0x2003), ip4(b"", fragment=0x2001)]
)
def test_a_fragment_beyond_all_bounds_does_not_harm_the_packet(fragment: bytes) -> None:
    first, last = fragments4(udp(b"a" * 40), [3])
    (packet,) = read(of(first, fragment, last))
    assert packet.body == udp(b"a" * 40)


# --- ICMP errors ---------------------------------------------------------------------------------


def error4(quote: bytes) -> bytes:
    return ip4(struct.pack("!BBHI", 3, 3, 0, 0) + quote, ICMP)


def error6(quote: bytes) -> bytes:
    return ip6(struct.pack("!BBHI", 1, 4, 0, 0) + quote, 58)


@pytest.mark.parametrize(
    "raw",
    [
        error4(FOUR[:28]),  # as little as RFC 792 asks for
        error4(fragments4(udp(b"x" * 40), [3])[0]),
        error6(SIX),
        error6(SIX[:48]),
        error6(ip6(bytes([UDP, 0]) + bytes(6) + udp(b"x"), 0)),
        error6(fragments6(udp(b"x" * 40), [3])[0]),
    ],
)
def test_an_icmp_error_quotes_enough_to_tell_the_ports(raw: bytes) -> None:
    (packet,) = read(of(raw))
    assert packet.quoted is not None
    assert (packet.quoted.protocol, packet.quoted.body[:4]) == (UDP, udp(b"")[:4])


def test_an_icmp_error_that_came_in_fragments_quotes_its_packet() -> None:
    (packet,) = read(of(*fragments4(struct.pack("!BBHI", 3, 3, 0, 0) + FOUR, [2, 1], ICMP)))
    assert packet.quoted is not None
    assert packet.quoted.body == udp(b"OPTIONS")


@pytest.mark.parametrize("quote", [b"", b"\x45", FOUR[:19], SIX[:39], b"\x60" * 41, fragments4(udp(b"x" * 40), [3])[1]])
def test_a_quote_that_is_too_short_tells_no_ports(quote: bytes) -> None:
    (packet,) = read(of(error4(quote)))
    assert packet.quoted is None or packet.quoted.protocol not in (6, UDP)
