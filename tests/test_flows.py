"""Conversations out of packets: streams put in order, what is missing, and what cannot be trusted."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exposure_scan.transport import Flow, Packet, read_flows, read_packets

LAB = Path(__file__).parents[1] / "pcaps" / "lab"
HOST, OURS, ROUTER = (ip_address(f"198.51.100.{number}") for number in (10, 250, 1))
FIN, SYN, RST, ACK = 1, 2, 4, 16
TCP, UDP, ICMP = 6, 17, 1
FIRST = 1000  # the sequence number of the host's first byte; of ours it is 8


def segment(
    outward: bool, sequence: int, flags: int, data: bytes = b"", *, ack: int = 0, window: int = 1024, port: int = 25
) -> tuple[bool, bytes]:
    near, far = (40000, port) if outward else (port, 40000)
    head = struct.pack("!HHIIBBHHH", near, far, sequence % 2**32, ack % 2**32, 0x50, flags, window, 0, 0)
    return outward, head + data


def theirs(sequence: int, data: bytes, flags: int = ACK) -> tuple[bool, bytes]:
    return segment(False, sequence, flags, data, ack=8)


def flows(segments: Iterable[tuple[bool, bytes]], *, protocol: int = TCP, cut: Iterable[int] = ()) -> list[Flow]:
    """The flows of these packets, one every ten milliseconds; `cut` are the numbers of those captured in part."""
    shortened = set(cut)
    return read_flows(
        (
            Packet(*((OURS, HOST) if outward else (HOST, OURS)), protocol, body, (n,), n / 100, n in shortened)
            for n, (outward, body) in enumerate(segments, start=1)
        ),
        {HOST},
    )


def flow(segments: Iterable[tuple[bool, bytes]], *, cut: Iterable[int] = ()) -> Flow:
    (only,) = flows(segments, cut=cut)
    return only


def opened(first: int = FIRST, port: int = 25) -> list[tuple[bool, bytes]]:
    return [
        segment(True, 7, SYN, port=port),
        segment(False, first - 1, SYN | ACK, ack=8, port=port),
        segment(True, 8, ACK, ack=first, port=port),
    ]


def told(of: Flow) -> list[tuple[str, bytes]]:
    return [(event.what, event.data) for event in of.events if event.what != "connected"]


# --- order, repetition, gaps ---------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    data=st.binary(min_size=1, max_size=80),
    first=st.sampled_from([FIRST, 0, 2**32 - 30, 2**31 - 5]),
    again=st.lists(st.tuples(st.integers(0, 79), st.integers(1, 40)), max_size=15),
    order=st.randoms(use_true_random=False),
)
def test_a_stream_in_any_order_with_repetitions_is_whole(
    data: bytes, first: int, again: list[tuple[int, int]], order: random.Random
) -> None:
    places = [(at, 7) for at in range(0, len(data), 7)] + [(at, size) for at, size in again if at < len(data)]
    segments = [theirs(first + at, data[at : at + size]) for at, size in places]
    segments.append(theirs(first + len(data), b"", FIN | ACK))
    order.shuffle(segments)
    talk = flow([*opened(first), *segments, segment(True, 8, ACK, ack=first + len(data) + 1)])
    assert b"".join(text for what, text in told(talk) if what == "received") == data
    assert told(talk)[-1] == ("closed", b"")
    assert talk.whole
    assert not talk.conflicting


def test_of_different_bytes_in_the_same_place_the_first_count_and_it_is_told() -> None:
    early = flow([*opened(), theirs(FIRST + 4, b"true"), theirs(FIRST + 2, b"xxFALSExx"), theirs(FIRST, b"220 ")])
    assert b"".join(text for _, text in told(early)) == b"22xxtrueExx"
    assert early.conflicting
    late = flow([*opened(), theirs(FIRST, b"220 true"), theirs(FIRST + 4, b"lies and more")])
    assert told(late) == [("received", b"220 true"), ("received", b" and more")]
    assert late.conflicting
    inside = flow([*opened(), theirs(FIRST + 3, b"b"), theirs(FIRST + 1, b"xxxx"), theirs(FIRST, b"a")])
    assert b"".join(text for _, text in told(inside)) == b"axxbx"
    assert inside.conflicting


def test_a_keep_alive_says_nothing_and_contradicts_nothing() -> None:
    alive = [theirs(FIRST + 3, b""), theirs(FIRST + 3, b"\0"), segment(True, 7, ACK, b"\0", ack=FIRST + 4)]
    talk = flow([*opened(), theirs(FIRST, b"220 "), *alive, theirs(FIRST + 4, b"hello")])
    assert told(talk) == [("received", b"220 "), ("received", b"hello")]
    assert talk.whole
    assert not talk.conflicting


def test_a_window_that_is_shut_and_probed_changes_nothing() -> None:
    shut = [segment(True, 8, ACK, ack=FIRST + 4, window=0), theirs(FIRST + 4, b"h"), theirs(FIRST + 4, b"hello")]
    talk = flow([*opened(), theirs(FIRST, b"220 "), *shut])
    assert b"".join(text for _, text in told(talk)) == b"220 hello"
    assert talk.whole
    assert not talk.conflicting


@pytest.mark.parametrize(
    "missing",
    [
        [theirs(FIRST, b"220 "), theirs(FIRST + 10, b"lost before")],
        [theirs(FIRST, b"220 "), segment(True, 8, ACK, ack=FIRST + 9)],  # we acknowledge what the file does not have
        [theirs(FIRST, b"220 "), theirs(FIRST + 6, b"", FIN | ACK)],
    ],
)
def test_where_bytes_are_missing_the_flow_is_not_whole_and_invents_nothing(missing: list[tuple[bool, bytes]]) -> None:
    talk = flow([*opened(), *missing])
    assert told(talk) == [("received", b"220 ")]
    assert not talk.whole


def test_a_segment_that_was_captured_in_part_leaves_a_gap() -> None:
    talk = flow([*opened(), theirs(FIRST, b"220 mail"), theirs(FIRST + 20, b"after"), segment(True, 8, ACK)], cut=[4])
    assert told(talk) == [("received", b"220 mail")]
    assert not talk.whole


def test_the_end_of_a_segment_that_was_captured_in_part_is_not_its_end() -> None:
    talk = flow([*opened(), theirs(FIRST, b"220 mail", FIN | ACK)], cut=[4])
    assert told(talk) == [("received", b"220 mail")]


def test_a_header_that_was_captured_in_part_shows_that_something_is_missing() -> None:
    outward, body = theirs(FIRST, b"")
    talk = flow([*opened(), (outward, body[:12])], cut=[4])
    assert (told(talk), talk.whole, talk.frames) == ([], False, (1, 2, 3, 4))


# --- beginnings and ends -------------------------------------------------------------------------


def test_data_in_a_syn_is_passed_on_once_the_host_has_answered() -> None:
    hello = segment(True, 7, SYN, b"EHLO a\r\n")
    answer = segment(False, FIRST - 1, SYN | ACK, b"220 ", ack=16)
    talk = flow([hello, answer, theirs(FIRST + 4, b"hi")])
    assert told(talk) == [("sent", b"EHLO a\r\n"), ("received", b"220 "), ("received", b"hi")]
    assert talk.events[0].what == "connected"
    assert talk.whole
    silent = flow([hello])
    assert (told(silent), silent.requests, silent.whole) == ([], 1, True)
    again = flow([hello, segment(False, FIRST - 1, SYN | ACK, ack=8), segment(True, 8, ACK, b"EHLO a\r\n")])
    assert told(again) == [("sent", b"EHLO a\r\n")]  # not taken at first, and sent again


def test_what_a_reset_carries_is_no_word_of_the_protocol() -> None:
    talk = flow([*opened(), theirs(FIRST, b"go away", RST | ACK)])
    assert told(talk) == [("reset", b"")]
    refused = flow([segment(True, 7, SYN), segment(False, 0, RST | ACK, b"no", ack=8)])
    assert [(event.what, event.detail) for event in refused.events] == [("not-connected", "rst")]
    assert refused.whole


def test_a_reset_of_a_conversation_whose_beginning_is_not_in_the_file_refuses_nothing() -> None:
    talk = flow([segment(False, 500, RST)])
    assert told(talk) == [("reset", b"")]
    assert not talk.whole


def test_a_capture_that_begins_in_the_middle_gives_what_it_has_and_is_not_whole() -> None:
    talk = flow([segment(True, 90, ACK, b"NOOP\r\n", ack=600), theirs(600, b"250 OK\r\n"), theirs(608, b"", FIN | ACK)])
    assert told(talk) == [("sent", b"NOOP\r\n"), ("received", b"250 OK\r\n"), ("closed", b"")]
    assert talk.events[0].what == "connected"
    assert [round(event.ms) for event in talk.events] == [0, 0, 10, 20]
    assert (talk.whole, talk.asked, talk.requests) == (False, True, 0)


def test_a_keep_alive_at_the_beginning_of_a_capture_does_not_hide_what_follows() -> None:
    assert told(flow([theirs(599, b""), theirs(600, b"250 OK\r\n")])) == [("received", b"250 OK\r\n")]


def test_words_to_a_host_that_never_speaks_show_no_connection() -> None:
    talk = flow([segment(True, 90, ACK, b"NOOP\r\n", ack=600), segment(True, 90, ACK, b"NOOP\r\n", ack=600)])
    assert (talk.events, talk.whole, talk.frames) == ([], False, (1, 2))


def test_who_began_is_known_from_the_syn_and_else_guessed_from_the_ports() -> None:
    assert flow([segment(False, FIRST - 1, SYN | ACK, ack=8)]).asked  # our SYN is not in the file
    assert not flow([segment(False, 7, SYN), segment(True, 99, SYN | ACK, ack=8)]).asked
    assert flow([theirs(600, b"250 OK\r\n")]).asked
    assert not flow([segment(False, 600, ACK, b"REGISTER", port=50001)]).asked


def test_a_syn_ack_that_was_captured_late_makes_the_flow_whole_after_all() -> None:
    syn, answer, ack = opened()
    talk = flow([syn, ack, theirs(FIRST, b"220 "), answer, theirs(FIRST + 4, b"hi")])
    assert told(talk) == [("received", b"220 "), ("received", b"hi")]
    assert [event.what for event in talk.events].count("connected") == 1
    assert talk.whole


def test_a_port_that_is_used_again_begins_another_flow() -> None:
    one = [*opened(), theirs(FIRST, b"one"), theirs(FIRST + 3, b"", FIN | ACK)]
    two = [segment(True, 70000, SYN), segment(False, 5, SYN | ACK, ack=70001), segment(False, 6, ACK, b"two")]
    first, second = flows([*one, *two, segment(True, 70000, SYN)])
    assert (told(first), told(second)) == ([("received", b"one"), ("closed", b"")], [("received", b"two")])
    assert (first.requests, second.requests) == (1, 2)  # the same SYN again is no new flow
    assert second.frames == (6, 7, 8, 9)
    middle, anew = flows([theirs(600, b"old"), *opened()])
    assert (middle.whole, anew.whole) == (False, True)


def test_both_may_begin_at_once() -> None:
    talk = flow([segment(True, 7, SYN), segment(False, 999, SYN), segment(False, 999, SYN | ACK, ack=8)])
    assert talk.events[0].what == "connected"
    assert talk.asked


# --- datagrams -----------------------------------------------------------------------------------


def datagram(outward: bool, data: bytes, size: int | None = None) -> tuple[bool, bytes]:
    ports = (40000, 5060) if outward else (5060, 40000)
    return outward, struct.pack("!HHHH", *ports, 8 + (len(data) if size is None else size), 0) + data


def test_a_datagram_that_was_captured_in_part_is_told_as_a_part() -> None:
    (talk,) = flows([datagram(True, b"OPTIONS"), datagram(False, b"SIP/2.0 200", 500)], protocol=UDP, cut=[2])
    assert [(event.what, event.data, event.detail) for event in talk.events[1:]] == [
        ("sent", b"OPTIONS", ""),
        ("received", b"SIP/2.0 200", "11 of 500 bytes"),
    ]
    assert not talk.whole
    (short,) = flows([datagram(False, b"SIP/2.0 200", 500)], protocol=UDP)  # its own header says so
    assert (short.events[-1].detail, short.whole) == ("11 of 500 bytes", False)
    (sound,) = flows([datagram(True, b"OPTIONS"), datagram(False, b"SIP/2.0 200")], protocol=UDP)
    assert sound.whole


def test_an_answer_in_fragments_is_one_event_with_all_its_frames() -> None:
    def ip(source: bytes, destination: bytes, body: bytes, fragment: int) -> bytes:
        return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 7, fragment, 64, UDP, 0) + source + destination + body

    request, answer = datagram(True, b"OPTIONS")[1], datagram(False, b"SIP/2.0 200 OK\r\n" * 100)[1]
    raws = [ip(OURS.packed, HOST.packed, request, 0), ip(HOST.packed, OURS.packed, answer[800:], 100)]
    raws += [ip(HOST.packed, OURS.packed, answer[:800], 0x2000)]
    file = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    for number, raw in enumerate(raws):
        file += struct.pack("<IIII", 1000 + number, 0, len(raw), len(raw)) + raw
    (talk,) = read_flows(read_packets(io.BytesIO(file), "c.pcap"), {HOST})
    assert told(talk) == [("sent", b"OPTIONS"), ("received", b"SIP/2.0 200 OK\r\n" * 100)]
    assert (talk.frames, talk.whole, talk.events[-1].ms) == ((1, 2, 3), True, 2000)


def test_an_icmp_error_about_a_fragment_or_in_few_bytes_finds_its_flow() -> None:
    request = datagram(True, b"x" * 40)[1]
    quoted = struct.pack("!BBHHHBBH", 0x45, 0, 68, 7, 0x2000, 64, UDP, 0) + OURS.packed + HOST.packed + request[:8]
    packets = [
        Packet(OURS, HOST, UDP, request, (1,), 1.0),
        Packet(ROUTER, OURS, ICMP, struct.pack("!BBHI", 3, 13, 0, 0) + quoted, (2,), 1.5),
    ]
    (talk,) = read_flows(packets, {HOST})
    assert [(event.what, event.detail) for event in talk.events[2:]] == [
        ("icmp", "type=3 code=13 from=198.51.100.1"),
        ("reset", ""),
    ]
    assert (talk.frames, talk.whole) == ((1, 2), True)


def test_time_does_not_go_back_where_packets_are_out_of_order() -> None:
    packets = [
        Packet(OURS, HOST, UDP, datagram(True, b"one")[1], (1,), 5.0),
        Packet(HOST, OURS, UDP, datagram(False, b"two")[1], (2,), 4.0),
        Packet(HOST, OURS, UDP, datagram(False, b"three")[1], (3,), 6.0),
    ]
    (talk,) = read_flows(packets, {HOST})
    assert [event.ms for event in talk.events] == [0, 0, 0, 1000]


# --- bounds --------------------------------------------------------------------------------------


def test_tens_of_thousands_of_segments_backwards_are_put_in_order() -> None:
    number = 30_000  # work that grows with the square of it would be felt
    backwards = [theirs(FIRST + at, b"%d" % (at % 10)) for at in range(number, 0, -1)]
    across = [theirs(FIRST + 1, b"x" * 9000)] * 500
    talk = flow([*opened(), *backwards, *across, theirs(FIRST, b"0")])
    assert b"".join(text for _, text in told(talk)) == b"0123456789" * (number // 10) + b"0"
    assert talk.whole


def test_a_stream_of_too_many_loose_pieces_is_given_up_and_the_others_are_not() -> None:
    loose = [theirs(FIRST + 2 * at, b"x") for at in range(1, 32_800)]
    other = [*opened(port=26), segment(False, FIRST, ACK, b"sound", port=26)]
    first, second = flows([*opened(), *loose, *other, theirs(FIRST, b"220 ")])
    assert (told(first), first.whole) == ([], False)
    assert (told(second), second.whole) == ([("received", b"sound")], True)


def test_more_than_the_limits_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = [*opened(), theirs(FIRST, b"x" * 60), theirs(FIRST, b"x" * 60), *opened(port=26)]
    with monkeypatch.context() as patch:
        patch.setattr("exposure_scan.transport.flows.LIMIT", 59)
        with pytest.raises(ValueError, match="more than 59 bytes"):
            flows(segments)
        patch.setattr("exposure_scan.transport.flows.LIMIT", 60)  # what came twice is kept once
        assert len(flows(segments)) == 2
    within = [*opened(), theirs(FIRST + 3, b"b"), theirs(FIRST + 1, b"xxxx"), theirs(FIRST, b"a")]
    with monkeypatch.context() as patch:
        patch.setattr("exposure_scan.transport.flows.LIMIT", 5)
        assert len(flows(within)) == 1
        patch.setattr("exposure_scan.transport.flows.LIMIT", 4)
        with pytest.raises(ValueError, match="more than 4 bytes"):
            flows(within)
    monkeypatch.setattr("exposure_scan.transport.flows.MOST", 1)
    with pytest.raises(ValueError, match="more than 1 conversations"):
        flows(segments)


@pytest.mark.parametrize("site", sorted(LAB.glob("*.pcap")), ids=lambda path: path.stem)
def test_every_flow_of_a_capture_of_ours_is_whole_and_every_frame_belongs_to_one(site: Path) -> None:
    with site.open("rb") as file:
        packets = list(read_packets(file, site.name))
    hosts = {address for packet in packets for address in (packet.source, packet.destination)} - {OURS}
    found = read_flows(packets, hosts)
    assert all(talk.whole and talk.asked and not talk.conflicting for talk in found)
    assert sorted(number for talk in found for number in talk.frames) == list(range(1, len(packets) + 1))
