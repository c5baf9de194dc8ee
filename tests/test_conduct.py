"""Conduct, audited from the wire: whom a scan asks, in which words, how fast, who it says it is, and how it leaves.

A witness of the test's own records all that leaves while every site of the practice site is scanned, in every way
that there is; nothing here believes what the product says of itself.
"""

from __future__ import annotations

import re
import shutil
import socket
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import conduct_page
import dns.message
import dns.rrset
import pytest
from conduct import ACK, FIN, RST, SYN, TCP, UDP, US, Packet, most_at_once, read, worst_excess
from conduct_scans import (
    ADDRESSES,
    BUDGET,
    MODES,
    OPINION,
    ORDINARY,
    RAW,
    SERVED,
    SWEEP,
    WHY_NOT,
    WIDE,
    Mode,
    Scans,
    inside_tls,
    named,
    scanned,
)
from conduct_words import NEVER, PLACES, Said, in_the_clear, in_tls, stream_words, words

CONNECTIONS = 3  # at once to one port of one address
TRIES = 3  # SYNs of one attempt, at most
RESOLVER = "198.18.77.1"
SLACK = 5  # packets: a time stamp is taken a moment after the pace was asked
LATE_MS = 500  # a program that ran later than this believes no silence, and asks once more

Figure = Callable[[str, int], None]


@pytest.fixture(scope="module")
def scans(practice_site: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Mode], Scans]:
    """Each mode's scans, made when they are first asked for."""
    folder, made = tmp_path_factory.mktemp("conduct"), dict[Mode, Scans]()

    def of(mode: Mode) -> Scans:
        if WHY_NOT.get(mode):
            pytest.skip(WHY_NOT[mode])
        if mode not in made:
            made[mode] = scanned(mode, folder / mode.name.replace(" ", "-"))
        return made[mode]

    return of


@pytest.fixture(params=MODES, ids=lambda mode: mode.name)
def seen(request: pytest.FixtureRequest, scans: Callable[[Mode], Scans]) -> Scans:
    return scans(request.param)


@pytest.fixture
def said(seen: Scans) -> list[Said]:
    return words(seen.packets, empty=seen.mode is OPINION)


# --- the witness ----------------------------------------------------------------------------------


def test_the_witness_missed_nothing(seen: Scans) -> None:
    assert seen.record.dropped == 0
    assert {address for address in ADDRESSES.values() if len(seen.sent(address)) > 30} == {*ADDRESSES.values()}


def test_the_witness_reads_packets_as_scapy_does(scans: Callable[[Mode], Scans]) -> None:
    from scapy.layers.inet import ICMP, IP
    from scapy.layers.inet import TCP as ITS_TCP
    from scapy.layers.inet import UDP as ITS_UDP
    from scapy.layers.inet6 import IPv6

    for at, raw in scans(RAW).record.raw:
        mine, its = read(at, raw), IP(raw) if raw[0] >> 4 == 4 else IPv6(raw)
        assert (mine.source, mine.destination) == (its.src, its.dst)
        if ITS_TCP in its:
            layer = its[ITS_TCP]
            assert (mine.protocol, mine.ports, mine.flags) == (TCP, (layer.sport, layer.dport), int(layer.flags))
            assert (mine.sequence, mine.acknowledged) == (layer.seq, layer.ack)
            assert mine.data == bytes(layer.payload)
        elif ITS_UDP in its and ICMP not in its:
            layer = its[ITS_UDP]
            assert (mine.protocol, mine.ports) == (UDP, (layer.sport, layer.dport))
            assert mine.data == bytes(layer.payload)


# --- whom -----------------------------------------------------------------------------------------


def test_packets_go_to_authorized_addresses_only(seen: Scans) -> None:
    assert {one.destination for one in seen.packets} <= {*ADDRESSES.values(), *US}
    assert {one.destination for one in seen.packets if one.ours} == {*ADDRESSES.values()}


@contextmanager
def a_resolver() -> Iterator[list[str]]:
    """A name server of the practice site's network that knows one name; the questions that came."""
    import peers

    peers.own_addresses()
    asked: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((RESOLVER, 53))

        def serve() -> None:
            while True:
                data, sender = sock.recvfrom(4096)
                if not data:
                    return
                query = dns.message.from_wire(data)
                asked.append(query.question[0].to_text())
                answer = dns.message.make_response(query, recursion_available=True)
                if query.question[0].rdtype == dns.rdatatype.A:
                    name, address = query.question[0].name, ADDRESSES["exposed-server"]
                    answer.answer = [dns.rrset.from_text(name, 60, "IN", "A", address)]
                sock.sendto(answer.to_wire(), sender)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", (RESOLVER, 53))
            thread.join()


def test_a_name_is_asked_of_the_configured_resolver_and_of_nobody_else(practice_site: None, tmp_path: Path) -> None:
    with a_resolver() as asked:
        packets = named(tmp_path, "pbx.practice.invalid", RESOLVER).packets()
    assert sorted(asked) == ["pbx.practice.invalid. IN A", "pbx.practice.invalid. IN AAAA"]
    asking = [one for one in packets if one.protocol == UDP and one.ports[1] == 53]
    assert [one.destination for one in asking] == [RESOLVER, RESOLVER]
    assert {one.destination for one in packets if one.ours} == {RESOLVER, ADDRESSES["exposed-server"]}


# --- in which words -------------------------------------------------------------------------------


def test_only_words_of_the_design_are_said(seen: Scans, said: list[Said], figure: Figure) -> None:
    assert [one for one in said if one.word is None] == []
    figure(f"conduct: words read on the wire ({seen.mode.name})", len(said))


def test_every_kind_of_word_was_there_to_be_judged(scans: Callable[[Mode], Scans]) -> None:
    heard = Counter(one.word for one in words(scans(RAW).packets))
    assert heard.keys() == PLACES.keys() - {"SMTP STARTTLS", "POP3 STLS"}  # which no device offers
    assert heard["SMTP EHLO"] == len({"exposed-server", "exposed-server-6", "moved-voicemail"} & ADDRESSES.keys())


def test_nothing_of_a_login_a_call_or_a_guess_is_in_any_byte(seen: Scans) -> None:
    for one in seen.packets:
        if one.ours and one.data[:1] not in (b"\x14", b"\x15", b"\x16", b"\x17"):  # TLS is opened below
            assert not NEVER.search(one.data), one
    for conversation in seen.connections:
        assert not NEVER.search(in_the_clear(conversation)), conversation.words


@pytest.mark.parametrize(
    "word",
    [
        b"REGISTER sip:198.51.100.10 SIP/2.0\r\n", b"INVITE sip:1@x SIP/2.0", b"AUTH PLAIN AGEAYg==\r\n",
        b"a1 LOGIN a b\r\n", b"USER root\r\n", b"PASS x\r\n", b"x1 AUTHENTICATE PLAIN\r\n", b"MAIL FROM:<a@b>\r\n",
        b"RCPT TO:<a@b>", b"VRFY root\r\n", b"EXPN staff\r\n", b"GET / HTTP/1.1\r\nAuthorization: Basic x\r\n",
        b"Cookie: a=b", b"GET /admin HTTP/1.1", b"HEAD / HTTP/1.1", b"POST / HTTP/1.1", b"x2 ID NIL\r\n",
        b"\x30\x26\x02\x01\x01\x04\x06public\xa0", b"\x30\x20\x02\x01\x00\x04\x03xyz\xa0",
    ],
)  # fmt: skip
def test_what_is_never_said_would_be_seen(word: bytes) -> None:
    assert NEVER.search(word)
    assert None in {name for name, _ in stream_words(word)}


@pytest.mark.parametrize("mode", [RAW, ORDINARY, WIDE], ids=lambda mode: mode.name)
@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed (tests/install_servers.sh)")
def test_words_inside_tls_are_as_harmless_and_as_recorded(
    mode: Mode, scans: Callable[[Mode], Scans], tmp_path: Path
) -> None:
    seen = scans(mode)
    sessions = [one for one in seen.connections if in_tls(one)]
    assert {one.port for one in sessions} == {5061, 1143}
    inside = inside_tls(seen, tmp_path, sessions)
    heard = [name for plain in inside for name, _ in stream_words(plain)]
    assert Counter(heard) == {"SIP OPTIONS": 1, "IMAP LOGOUT": 1}
    assert not any(map(NEVER.search, inside))
    for one, plain in zip(sessions, inside, strict=True):
        if plain:
            assert in_the_clear(one) + plain == seen.recorded(one.host, one.port)


@pytest.mark.skipif(bool(WHY_NOT[OPINION]), reason=WHY_NOT[OPINION] or "nmap is installed")
def test_nmap_says_nothing_beside_our_words(scans: Callable[[Mode], Scans]) -> None:
    ours, both = (Counter(one.word for one in words(scans(mode).packets, empty=True)) for mode in (RAW, OPINION))
    assert set(both) == set(ours)
    udp_ports = 10
    assert both["empty datagram"] >= ours["empty datagram"] + udp_ports * len(ADDRESSES)


# --- who we are -----------------------------------------------------------------------------------


def test_every_word_says_who_asks_and_whom_to_talk_to_where_it_can(seen: Scans, said: list[Said]) -> None:
    for one in said:
        assert one.word is not None
        place = PLACES[one.word]
        for pattern in (place.name, place.contact):
            assert pattern is None or _found(pattern, one.data), one
        assert place.why or (place.name and place.contact), one.word


def _found(pattern: bytes, data: bytes) -> bool:
    return re.search(pattern, data, re.DOTALL) is not None


# --- how fast -------------------------------------------------------------------------------------


def test_the_pace_of_each_host_is_kept(seen: Scans) -> None:
    """What a program asks; what the kernel answers by itself is held by another test.

    Where programs of ours connect, the kernel repeats a burst's SYNs by itself, and the pace pays for them afterwards.
    """
    repeated = seen.mode.burst if seen.mode in (ORDINARY, WIDE) else 0
    for address in ADDRESSES.values():
        times = [one.at for one in seen.sent(address) if one.asks]
        assert worst_excess(times, seen.mode.rate) <= seen.mode.burst + repeated + SLACK, address


def test_the_pace_of_all_hosts_together_is_kept(scans: Callable[[Mode], Scans]) -> None:
    seen = scans(SWEEP)
    assert seen.mode.total is not None
    times = [one.at for one in seen.packets if one.ours and one.asks]
    assert worst_excess(times, seen.mode.total) <= seen.mode.total / 20 + SLACK


def test_a_pace_that_is_not_kept_is_seen() -> None:
    assert worst_excess([at / 100 for at in range(200)], 100) == pytest.approx(1)
    assert worst_excess([at / 120 for at in range(200)], 100) > 30
    assert worst_excess([0.0] * 45 + [9.0] * 3, 100) == 45


def test_the_kernel_answers_for_us_no_more_than_it_is_told(seen: Scans) -> None:
    for address in ADDRESSES.values():
        answers = [one for one in seen.sent(address) if not one.asks]
        assert len(answers) <= sum(one.peer == address and not one.ours for one in seen.packets)


def test_few_connections_are_open_to_one_service(seen: Scans) -> None:
    held: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for one in seen.connections:
        if one.accepted:
            held[one.host, one.port].append(one.holds)
    assert held.keys() == SERVED
    assert max(map(most_at_once, held.values())) <= CONNECTIONS


def test_more_connections_than_promised_are_seen() -> None:
    assert most_at_once([(0, 4), (1, 4), (2, 4), (3, 4)]) == 4
    assert most_at_once([(0, 1), (1, 2), (2, 3)]) == 1


# --- how it leaves --------------------------------------------------------------------------------


def test_every_connection_is_ended_on_both_sides(seen: Scans) -> None:
    assert seen.record.left_open == ()
    opened = [one for one in seen.connections if one.opened]
    assert {(one.host, one.port) for one in opened} == SERVED
    for one in opened:
        assert not one.sent(RST, by_us=True), one
        assert not one.sent(RST, by_us=False), one
        for by_us in (True, False):
            fins = one.sent(FIN, by_us=by_us)  # a kernel whose peer is slow says it again
            assert len({fin.sequence + len(fin.data) for fin in fins}) == 1, one
            assert one.is_acknowledged(fins[0]), one


def test_what_was_not_opened_is_left_with_nothing_but_the_kernel_s_reset(seen: Scans) -> None:
    """A SYN-ACK that answers a SYN of the engine or of Nmap meets a RST: no program of ours holds that port."""
    for one in seen.connections:
        if one.opened:
            continue
        assert len(one.sent(SYN, by_us=True)) <= TRIES
        others = [packet.flags & (SYN | RST | FIN | ACK) for packet in one.packets if packet.ours]
        assert [flags for flags in others if flags != SYN] == [RST] * len(one.sent(SYN, by_us=False))
        assert one.words == b""


def test_the_ordinary_engine_opens_what_it_asks(scans: Callable[[Mode], Scans]) -> None:
    accepted = {mode: [one for one in scans(mode).connections if one.accepted] for mode in (RAW, ORDINARY)}
    assert all(one.opened for one in accepted[ORDINARY])
    assert any(not one.opened for one in accepted[RAW])


# --- what it costs --------------------------------------------------------------------------------


def test_a_scan_stays_within_its_budget(seen: Scans, figure: Figure) -> None:
    spent = {site: _cost(seen.sent(address)) for site, address in ADDRESSES.items()}
    for site, (packets, size) in spent.items():
        if seen.mode is RAW:
            figure(f"conduct: packets sent to {site}", packets)
            figure(f"conduct: bytes sent to {site}", size)
    figure(f"conduct: packets sent to all sites ({seen.mode.name})", sum(packets for packets, _ in spent.values()))
    figure(f"conduct: bytes sent to all sites ({seen.mode.name})", sum(size for _, size in spent.values()))
    for site, (packets, size) in spent.items():
        budget = BUDGET[seen.mode.name][site]
        again = 2 if seen.lag_ms(site) > LATE_MS else 1
        assert packets <= again * budget.packets * 1.1 + 5, site
        assert size <= again * budget.size * 1.1 + 5 * 100, site
        assert packets >= budget.packets * 0.75, (
            "the budget is too large to notice anything, and the page says too much"
        )


def _cost(packets: list[Packet]) -> tuple[int, int]:
    return len(packets), sum(one.size for one in packets)


# --- what the page says ---------------------------------------------------------------------------

# On the page, and offered or granted by no device of the practice site.
NOT_OFFERED = [b"STARTTLS\r\n", b"STLS\r\n", b"\x80\x08\x00\x00\x00\x00\x00\x04"]
EMPTY_OR_TLS = ("empty datagram", "TLS record")  # told in words


def on_the_wire(seen: Scans) -> list[Said]:
    """What was said, and inside TLS by the record, which the test above holds to the wire."""
    sessions = [one for one in seen.connections if in_tls(one)]
    inside = [
        Said(word, one.host, f"tcp/{one.port}", piece)
        for one in sessions
        for word, piece in stream_words(seen.recorded(one.host, one.port))
    ]
    return [one for one in words(seen.packets) + inside if one.word not in EMPTY_OR_TLS]


def test_the_page_is_the_one_that_would_be_made_now() -> None:
    assert not conduct_page.is_stale(), "run `make what-we-send`, and look at what changed"


def test_whatever_passes_the_wire_stands_on_the_page(scans: Callable[[Mode], Scans]) -> None:
    page = conduct_page.shown()
    snmp = max(one.size for one in page if one.heading == "SNMP")
    for mode in (RAW, ORDINARY):
        for one in on_the_wire(scans(mode)):
            smaller = one.port == "udp/161" and len(one.data) < snmp  # a small number drawn: the page tells of it
            assert smaller or any(shown.pattern.fullmatch(one.data) for shown in page), one


def test_whatever_stands_on_the_page_passes_the_wire(scans: Callable[[Mode], Scans]) -> None:
    said = {one.data for one in on_the_wire(scans(RAW))}
    unseen = [one for one in conduct_page.shown() if not any(map(one.pattern.fullmatch, said))]
    assert len(unseen) == len(NOT_OFFERED)
    for one, mark in zip(unseen, NOT_OFFERED, strict=True):
        assert mark in one.pattern.pattern.replace(b"\\", b"") or one.pattern.fullmatch(mark), one
