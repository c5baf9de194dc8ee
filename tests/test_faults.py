"""The faults of the line as transforms: what goes in, what comes out, and bytes that scapy reads the same way."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, ICMPerror, IPerror, TCPerror

from exposure_scan.lab import faults, packets
from exposure_scan.lab.faults import ELSEWHERE, FAULTS, ROUTER, Passing, Way, read, through
from exposure_scan.lab.line import STANDING, Place
from exposure_scan.lab.packets import ACK, FIN, RST, SYN, Segment

SCANNER, HOST = "198.18.255.1", "198.18.7.9"


def syn(port: int = 25, near: int = 40000, flags: int = SYN, data: bytes = b"", seq: int = 1000) -> bytes:
    return packets.tcp(Segment(near, port, seq, 77, flags, 64240, data), SCANNER, HOST)


def syn_ack(port: int = 25, near: int = 40000) -> bytes:
    return packets.tcp(Segment(port, near, 5, 1001, SYN | ACK, 64240), HOST, SCANNER)


def asks(port: int = 5060, near: int = 40000) -> bytes:
    return packets.udp(near, port, b"OPTIONS", SCANNER, HOST)


def tells(port: int = 5060, near: int = 40000) -> bytes:
    return packets.udp(port, near, b"SIP/2.0 200 OK", HOST, SCANNER)


def echo(kind: int = packets.ECHO, ttl: int = 64, identifier: bytes = b"\x12\x34") -> bytes:
    ends = (SCANNER, HOST) if kind == packets.ECHO else (HOST, SCANNER)
    body = bytes([kind, 0, 0, 0]) + identifier + b"\x00\x01exposure"
    return packets.write(packets.Packet(*ends, packets.ICMP, body, ttl))


def refusal(code: int = packets.PORT_UNREACHABLE) -> bytes:
    return packets.icmp_error(asks(69), packets.UNREACHABLE, code, HOST)


def out(row: str, raw: bytes, now: float = 0.0) -> list[Passing]:
    return through([read(text, 1) for text in row.split()], Way.OUT, raw, now)


def back(row: str, raw: bytes, now: float = 0.0) -> list[Passing]:
    return through([read(text, 1) for text in row.split()], Way.BACK, raw, now)


def only_packet(passed: list[Passing], way: Way) -> IP:
    (passing,) = passed
    assert passing.way is way
    return sound(passing.packet)


def sound(raw: bytes) -> IP:
    """The packet as scapy reads it, after scapy has come to the same checksums and lengths."""
    seen = IP(raw)
    fresh = IP(raw)
    for layer in (IP, TCP, UDP, ICMP):
        if layer in fresh:
            del fresh[layer].chksum
    del fresh[IP].len
    assert bytes(fresh) == raw
    return seen


# --- packets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [syn(), syn(data=b"odd"), syn_ack(), asks(), tells(), echo(), refusal()])
def test_made_packets_are_whole_and_come_apart_again(raw: bytes) -> None:
    sound(raw)
    packet = packets.read(raw)
    assert packet is not None
    assert packets.write(packet) == raw


@pytest.mark.parametrize("raw", [b"", b"\x45", syn()[:30], b"\x65" + syn()[1:], syn()[:6] + b"\x00\x09" + syn()[8:]])
def test_what_is_no_whole_packet_is_none(raw: bytes) -> None:
    assert packets.read(raw) is None
    for name in FAULTS:
        box = read({"loss": "loss=0", "dark": "dark=9", "slow": "slow=1", "late": "late=1"}.get(name, f"{name}=1"), 1)
        box(Way.OUT, raw, 0.0)  # a box must not fall over it


def test_keys_are_the_product_s_words() -> None:
    keys = [packet.key for raw in (syn(), asks(), echo()) if (packet := packets.read(raw)) is not None]
    assert keys == ["tcp/25", "udp/5060", "icmp"]


def test_an_error_quotes_the_packet_it_is_about() -> None:
    seen = sound(packets.icmp_error(syn(), packets.UNREACHABLE, packets.ADMIN_PROHIBITED, ROUTER))
    assert (seen[IP].src, seen[IP].dst, seen[ICMP].type, seen[ICMP].code) == (ROUTER, SCANNER, 3, 13)
    assert (seen[IPerror].src, seen[IPerror].dst) == (SCANNER, HOST)
    assert (seen[TCPerror].sport, seen[TCPerror].dport, seen[TCPerror].seq) == (40000, 25, 1000)


# --- a row of boxes -------------------------------------------------------------------------------


def test_a_row_is_passed_from_the_scanner_to_the_host_and_back() -> None:
    order: list[str] = []

    def box(name: str) -> faults.Fault:
        def seen(way: Way, raw: bytes, _now: float) -> list[Passing]:
            order.append(f"{name} {way}")
            return [Passing(1.0, way, raw)]

        return seen

    assert through([box("near"), box("far")], Way.OUT, syn(), 0.0) == [Passing(2.0, Way.OUT, syn())]
    assert through([box("near"), box("far")], Way.BACK, syn_ack(), 0.0) == [Passing(2.0, Way.BACK, syn_ack())]
    assert order == ["near out", "far out", "far back", "near back"]


def test_an_answer_that_turns_back_passes_the_boxes_before_it_again() -> None:
    assert out("dead router", syn()) == []
    (passing,) = out("late=2 unreachable", syn())
    assert (passing.seconds, passing.way) == (2.0, Way.BACK)
    assert out("from-elsewhere dead", syn()) == []


def test_no_boxes_change_nothing() -> None:
    assert out("", syn()) == [Passing(0.0, Way.OUT, syn())]
    assert back("", tells()) == [Passing(0.0, Way.BACK, tells())]


# --- loss, and what looks like it -----------------------------------------------------------------


@pytest.mark.parametrize("way", Way)
def test_loss_takes_its_share_each_way_and_the_same_for_the_same_seed(way: Way) -> None:
    def lots(seed: int) -> list[bool]:
        box = read("loss=0.2", seed)
        return [not box(way, syn(), 0.0) for _ in range(5000)]

    assert 900 < sum(lots(1)) < 1100
    assert lots(1) == lots(1) != lots(2)


def test_no_loss_loses_nothing_and_all_loses_all() -> None:
    assert all(out("loss=0", syn()) for _ in range(100))
    assert not any(out("loss=1", syn()) for _ in range(100))


def test_the_first_packet_of_each_flow_is_dropped() -> None:
    box = read("first-of-flow", 1)
    for raw in (syn(), syn(near=40001), syn(port=80), asks(), echo(), echo(identifier=b"\x99\x99")):
        assert not list(box(Way.OUT, raw, 0.0))
        assert list(box(Way.OUT, raw, 0.0)) == list(box(Way.OUT, raw, 0.0)) == [Passing(0, Way.OUT, raw)]
    assert list(box(Way.BACK, syn_ack(port=443), 0.0)), "what comes back is no first packet"


def test_after_so_many_packets_none_gets_through_but_answers_on_their_way_do() -> None:
    box = read("dark=2", 1)
    assert [bool(box(Way.OUT, syn(), 0.0)) for _ in range(2)] == [True, True]
    assert [bool(box(Way.OUT, syn(), 0.0)) for _ in range(2)] == [False, False]
    assert box(Way.BACK, syn_ack(), 0.0)


def test_few_errors_pass_and_everything_else_does() -> None:
    box = read("few-errors=2", 1)
    passed = [bool(box(Way.BACK, refusal(), now)) for now in (0.0, 0.1, 0.49, 0.5, 0.6, 1.0)]
    assert passed == [True, False, False, True, False, True]
    assert all(box(Way.BACK, raw, 1.1) for raw in (syn_ack(), tells(), echo(packets.ECHO_REPLY)))


# --- somebody says no -----------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [syn(), asks(69), echo()])
@pytest.mark.parametrize(
    ("row", "sender", "code"),
    [
        ("prohibited-by-router=udp/5060", ROUTER, 13),
        ("prohibited-by-host=udp/5060", HOST, 13),
        ("unreachable", ROUTER, 1),
    ],
)
def test_a_refusal_comes_from_who_says_it(row: str, sender: str, code: int, raw: bytes) -> None:
    seen = only_packet(out(row, raw), Way.BACK)
    assert (seen[IP].src, seen[IP].dst, seen[ICMP].type, seen[ICMP].code) == (sender, SCANNER, 3, code)
    assert bytes(seen)[28:56] == raw[:28], "the kernel tells by these whose packet it was"


def test_what_is_allowed_passes_and_the_rest_is_silent_or_refused() -> None:
    for row in ("only=udp/5060+icmp", "prohibited-by-router=udp/5060+icmp", "prohibited-by-host=udp/5060+icmp"):
        for raw in (asks(5060), echo()):
            assert out(row, raw) == [Passing(0.0, Way.OUT, raw)]
        assert all(passing.way is Way.BACK for passing in out(row, syn(5060)))
        assert back(row, tells()) == [Passing(0.0, Way.BACK, tells())]
    assert out("only=udp/5060", syn()) == []
    assert out("dead", asks()) == []


@pytest.mark.parametrize("raw", [refusal(), syn(flags=RST), syn(flags=RST | ACK)])
def test_no_error_answers_an_error_or_a_reset(raw: bytes) -> None:
    for row in ("unreachable", "prohibited-by-host", "prohibited-by-router"):
        assert out(row, raw) == []


def test_a_router_is_found_by_a_packet_that_lives_for_one_hop() -> None:
    seen = only_packet(out("router", echo(ttl=1)), Way.BACK)
    assert (seen[IP].src, seen[ICMP].type, seen[ICMP].code) == (ROUTER, 11, 0)
    assert seen[ICMPerror].id == 0x1234
    assert only_packet(out("router", echo(ttl=2)), Way.OUT)[IP].ttl == 1
    assert only_packet(out("router router", syn()), Way.OUT)[IP].ttl == 62
    assert only_packet(back("router", tells()), Way.BACK)[IP].ttl == 63


# --- somebody says yes to everything --------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "answered"),
    [("sip-helper", {5060, 2000}), ("sip-helper-resets", {5060, 2000}), ("syn-proxy", {4, 25, 2000, 5060})],
)
def test_handshakes_are_completed_for_the_host(row: str, answered: set[int]) -> None:
    for port in (4, 25, 2000, 5060):
        (passing,) = out(row, syn(port))
        assert (passing.way is Way.BACK) == (port in answered)
        if port in answered:
            seen = sound(passing.packet)
            assert (seen[IP].src, seen[TCP].sport, seen[TCP].dport) == (HOST, port, 40000)
            assert (seen[TCP].flags, seen[TCP].ack) == ("SA", 1001)
    assert out(row, asks(5060)) == [Passing(0.0, Way.OUT, asks(5060))], "UDP is none of its business"


def test_behind_the_handshake_there_is_silence_or_a_reset() -> None:
    assert out("sip-helper", syn(5060, flags=ACK)) == []
    seen = only_packet(out("sip-helper", syn(5060, flags=ACK, data=b"OPTIONS")), Way.BACK)
    assert (seen[TCP].flags, seen[TCP].ack, bytes(seen[TCP].payload)) == ("A", 1007, b"")
    seen = only_packet(out("sip-helper", syn(5060, flags=FIN | ACK)), Way.BACK)
    assert (seen[TCP].flags, seen[TCP].ack) == ("FA", 1001)
    assert only_packet(out("sip-helper-resets", syn(5060, flags=ACK)), Way.BACK)[TCP].flags == "R"
    for row in ("sip-helper", "sip-helper-resets"):
        assert out(row, syn(5060, flags=RST)) == []


# --- answers in another shape ---------------------------------------------------------------------


def test_slow_words_wait_and_slow_lines_let_everything_wait() -> None:
    assert [passing.seconds for passing in (*back("slow=2", tells()), *back("slow=2", syn_ack()))] == [2.0, 0.0]
    assert [passing.seconds for passing in (*back("late=2", tells()), *back("late=2", syn_ack()))] == [2.0, 2.0]
    assert [passing.seconds for passing in (*out("slow=2", asks()), *out("late=2", asks()))] == [0.0, 0.0]


def test_answers_come_twice_and_in_another_order() -> None:
    assert back("duplicated", tells()) == [Passing(0.0, Way.BACK, tells())] * 2
    assert len(out("duplicated", asks())) == 1
    box = read("reordered", 1)
    first, second, third = (next(iter(box(Way.BACK, tells(), 0.0))).seconds for _ in range(3))
    assert first == third > second


@pytest.mark.parametrize("raw", [syn_ack(), tells(), echo(packets.ECHO_REPLY)])
def test_answers_come_from_elsewhere(raw: bytes) -> None:
    seen, before = only_packet(back("from-elsewhere", raw), Way.BACK), IP(raw)
    assert (seen[IP].src, seen[IP].dst) == (ELSEWHERE, SCANNER)
    assert seen[IP].proto == before[IP].proto
    seen = only_packet(back("from-another-port", raw), Way.BACK)
    assert seen[IP].src == HOST
    if seen[IP].proto != packets.ICMP:
        assert seen[IP].payload.sport not in (25, 5060)
        assert seen[IP].payload.dport == 40000
    assert bytes(seen[IP].payload.payload) == bytes(before[IP].payload.payload)


# --- their names ----------------------------------------------------------------------------------


def test_a_place_is_read_as_it_is_written() -> None:
    place = Place.parse("9 sip-only router only=udp/5060+icmp loss=0.2")
    assert (place.address, place.device) == (HOST, "sip-only")
    assert Place.parse(str(place)) == place
    assert len(place.boxes(1)) == 3


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("9 sip-only lost=1", "lost"),
        ("9 sip-only loss=much", "much"),
        ("9 sip-only dark", "''"),
        ("9 printer", "printer"),
        ("255 nobody", "255"),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_anything_starts(text: str, about: str) -> None:
    with pytest.raises(ValueError, match=about):
        Place.parse(text)


def test_whoever_can_stand_there_can_be_named() -> None:
    assert {"exposed-server", "sip-only", "admin-only", "web-only", "refusing", "nobody"} <= set(STANDING)
