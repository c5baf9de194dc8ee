"""Packets of captures that other tools made: every link, both file formats, and hostile files."""

from __future__ import annotations

import io
import select
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest
from capture_files import (
    FOUR,
    HOST,
    HOST6,
    OURS,
    OURS6,
    RAW,
    SIX,
    START,
    UDP,
    block,
    captured,
    interface,
    ip4,
    of,
    pcap,
    read,
    section,
    udp,
)

from exposure_scan.transport import Packet, read_flows, read_packets

LAB = Path(__file__).parents[1] / "pcaps" / "lab"

# --- links ---------------------------------------------------------------------------------------


def scapy_link(name: str) -> bytes:
    """The packet as scapy wraps it for a link: another's reading of the formats."""
    from scapy.layers.inet import IP
    from scapy.layers.l2 import CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Ether, Loopback
    from scapy.layers.ppp import PPP, PPPoE

    mac = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    layers = {
        "ethernet": mac / IP(FOUR),
        "vlan": mac / Dot1Q(vlan=12) / IP(FOUR),
        "nested": mac / Dot1AD(vlan=1) / Dot1Q(vlan=12) / IP(FOUR),
        "pppoe": mac / Dot1Q(vlan=7) / PPPoE(sessionid=3) / PPP(proto=0x21) / IP(FOUR),
        "null": Loopback(type=2) / IP(FOUR),
        "cooked": CookedLinux() / IP(FOUR),
        "cooked2": CookedLinuxV2() / IP(FOUR),
    }
    return bytes(layers[name])


@pytest.mark.parametrize(
    ("link", "make"),
    [
        (0, lambda: scapy_link("null")),
        (0, lambda: b"\x00\x00\x00\x02" + FOUR),
        (108, lambda: b"\x00\x00\x00\x02" + FOUR),
        (1, lambda: scapy_link("ethernet")),
        (1, lambda: scapy_link("ethernet").ljust(60, b"\0") + b"fcs!"),
        (1, lambda: scapy_link("vlan")),
        (1, lambda: scapy_link("nested")),
        (1, lambda: scapy_link("pppoe")),
        (113, lambda: scapy_link("cooked")),
        (276, lambda: scapy_link("cooked2")),
        (276, lambda: b"\x81\x00" + bytes(18) + b"\x00\x0c\x08\x00" + FOUR),
        (9, lambda: b"\x00\x21" + FOUR),
        (9, lambda: b"\xff\x03\x00\x21" + FOUR),
        (12, lambda: FOUR),
        (14, lambda: FOUR),
        (101, lambda: FOUR),
        (228, lambda: FOUR),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_packet_is_the_same_whatever_link_it_was_captured_on(
    link: int, make: Callable[[], bytes], order: str
) -> None:
    (packet,) = read(pcap([(0.25, make())], link, order=order))
    assert packet == Packet(OURS, HOST, UDP, udp(b"OPTIONS"), (1,), START + 0.25)


@pytest.mark.parametrize(
    ("link", "before"),
    [
        (0, b"\x1e\0\0\0"),
        (0, b"\x0a\0\0\0"),
        (108, b"\0\0\0\x18"),
        (1, bytes(12) + b"\x86\xdd"),
        (113, bytes(14) + b"\x86\xdd"),
        (276, b"\x86\xdd" + bytes(18)),
        (9, b"\x00\x57"),
        (101, b""),
        (229, b""),
    ],
)
def test_ipv6_is_read_on_every_link_too(link: int, before: bytes) -> None:
    (packet,) = read(pcap([(0, before + SIX)], link))
    assert packet == Packet(OURS6, HOST6, UDP, udp(b"OPTIONS"), (1,), START)


@pytest.mark.parametrize(
    ("link", "data"),
    [(1, bytes(12) + b"\x08\x06" + FOUR), (1, b"short"), (1, bytes(12) + b"\x81\x00" * 40), (0, b"\x07\0\0\0" + FOUR),
     (113, b""), (276, b"\x08"), (9, b"\xc0\x21" + FOUR), (101, b"\x45"), (101, b"")],
)  # fmt: skip
def test_what_is_no_packet_of_ip_is_passed_over_and_counts_as_a_frame(link: int, data: bytes) -> None:
    assert read(pcap([(0, data)], link)) == []
    mixed = section() + interface(link) + interface(RAW) + captured(0, 0, data) + captured(1, 0, FOUR)
    assert [packet.frames for packet in read(mixed)] == [(2,)]


def test_a_link_that_is_not_known_is_refused_by_its_number() -> None:
    with pytest.raises(ValueError, match=r"c\.pcap: packet 1 was captured on a link of type 147"):
        read(pcap([(0, FOUR)], 147))


# --- file formats --------------------------------------------------------------------------------


def test_interfaces_of_one_pcapng_keep_their_own_links_and_clocks() -> None:
    file = section()
    file += interface(RAW) + interface(1, (9, b"\x09")) + interface(276, (9, b"\x94"), (14, struct.pack("<q", START)))
    file += captured(0, START * 10**6 + 250_000, FOUR)
    file += captured(1, START * 10**9 + 500_000_001, bytes(12) + b"\x08\x00" + FOUR)
    file += captured(2, 3 << 18, b"\x08\x00" + bytes(18) + FOUR)  # 2**-20 seconds, and an offset
    assert [packet.at for packet in read(file)] == [START + 0.25, START + 0.500000001, START + 0.75]
    assert {(packet.source, packet.destination, packet.body) for packet in read(file)} == {
        (OURS, HOST, udp(b"OPTIONS"))
    }


def test_sections_of_a_pcapng_have_their_own_byte_order_and_interfaces() -> None:
    file = section() + interface(1) + captured(0, START * 10**6, bytes(12) + b"\x08\x00" + FOUR)
    file += section(">") + interface(RAW, order=">") + captured(0, START * 10**6, FOUR, ">")
    assert [(packet.body, packet.frames) for packet in read(file)] == [
        (udp(b"OPTIONS"), (1,)),
        (udp(b"OPTIONS"), (2,)),
    ]


def test_old_and_simple_packets_of_a_pcapng_count_and_other_blocks_are_passed_over() -> None:
    stamp = START * 10**6
    old = struct.pack("<HHIIII", 0, 9, stamp >> 32, stamp & 0xFFFFFFFF, len(FOUR), len(FOUR)) + FOUR
    file = section() + interface(RAW, kept=len(FOUR)) + block(4, b"names") + block(0x0BAD, b"custom" * 9)
    file += block(2, old) + block(5, bytes(8)) + block(3, struct.pack("<I", 999) + FOUR)
    assert [(packet.frames, packet.at) for packet in read(file)] == [((1,), START), ((2,), START)]


def tool(name: str, *arguments: str | Path) -> bytes:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (Debian: tshark brings editcap and mergecap)")
    return subprocess.run([path, *map(str, arguments)], check=True, capture_output=True).stdout


@pytest.mark.parametrize("form", ["pcap", "nsecpcap", "pcapng"])
def test_what_editcap_rewrites_is_read_like_the_original(form: str, tmp_path: Path) -> None:
    original = (LAB / "exposed-server.pcap").read_bytes()
    tool("editcap", "-F", form, LAB / "exposed-server.pcap", tmp_path / "c")
    assert read((tmp_path / "c").read_bytes()) == read(original)


def test_two_captures_of_different_links_that_mergecap_joined_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(pcap([(0, FOUR), (2, FOUR)]))
    (tmp_path / "b").write_bytes(pcap([(1, bytes(12) + b"\x86\xdd" + SIX)], 1))
    tool("mergecap", "-F", "pcapng", "-w", tmp_path / "c", tmp_path / "a", tmp_path / "b")
    packets = read((tmp_path / "c").read_bytes())
    assert [packet.source for packet in packets] == [OURS, OURS6, OURS]
    assert [packet.at for packet in packets] == [START, START + 1, START + 2]


def test_packets_that_editcap_shortened_are_marked_as_cut(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(of(FOUR, ip4(udp(b"OPTIONS sip:100@198.51.100.10"))))
    tool("editcap", "-s", "40", tmp_path / "a", tmp_path / "b")
    assert [(packet.cut, packet.body) for packet in read((tmp_path / "b").read_bytes())] == [
        (False, udp(b"OPTIONS")),
        (True, udp(b"OPTIONS sip:100@198.51.100.10")[:20]),
    ]


def test_a_packet_of_no_stated_length_is_cut_where_the_capture_says_so() -> None:
    raw = FOUR[:2] + b"\0\0" + FOUR[4:]  # as the kernel leaves it to the network card
    assert [packet.cut for packet in read(pcap([(0, raw)]))] == [False]
    assert [packet.cut for packet in read(pcap([(0, raw)], wire=len(raw) + 9))] == [True]
    assert [packet.cut for packet in read(section() + interface(RAW) + captured(0, 0, raw, wire=len(raw) + 9))] == [
        True
    ]
    assert [packet.cut for packet in read(pcap([(0, FOUR)], wire=len(raw) + 9))] == [False]  # only padding is missing


NG = section() + interface(RAW) + b"".join(captured(0, START * 10**6 + number, FOUR) for number in range(3))


@pytest.mark.parametrize("content", [of(FOUR, FOUR, FOUR), NG], ids=["pcap", "pcapng"])
def test_a_file_that_ends_in_the_middle_gives_its_whole_packets_and_says_so(content: bytes) -> None:
    ends = []
    for size in range(len(content) + 1):
        packets = read_packets(io.BytesIO(content[:size]), "c.pcap")
        if size < (24 if content != NG else 28):
            with pytest.raises(ValueError, match="no capture"):
                list(packets)
        elif number := [len(list(packets))]:
            ends += [] if packets.truncated else number
    assert ends[-4:] == [0, 1, 2, 3]  # at the ends of packets, and there only
    assert len(ends) == 4 + (content == NG)  # a section alone ends well, too


# --- what `-i any` shows twice -------------------------------------------------------------------


def cooked(link: int, direction: int, raw: bytes) -> bytes:
    if link == 113:
        return struct.pack("!HHH8sH", direction, 772, 6, b"", 0x0800) + raw
    return struct.pack("!HHIHBB8s", 0x0800, 0, 1, 772, direction, 6, b"") + raw


@pytest.mark.parametrize("link", [113, 276])
def test_a_packet_seen_going_out_and_coming_in_counts_once(link: int) -> None:
    def counted(*sights: tuple[float, int, bytes]) -> int:
        return len(read(pcap([(at, cooked(link, direction, raw)) for at, direction, raw in sights], link)))

    other = ip4(udp(b"OPTIONS"), identification=8)
    assert counted((0, 4, FOUR), (0.0001, 0, FOUR)) == 1
    assert counted((0, 4, FOUR), (0.0001, 4, other), (0.0002, 0, FOUR), (0.0003, 0, other)) == 2
    assert counted((0, 4, FOUR), (0.0001, 0, FOUR), (0.0002, 0, FOUR)) == 2  # one more came
    assert counted((0, 0, FOUR), (0.0001, 0, FOUR)) == 2  # twice in the same direction
    assert counted((0, 4, FOUR), (0.5, 0, FOUR)) == 2  # too late to be the same
    assert counted((5.0, 4, other), (5.0009, 4, FOUR), (4.9995, 0, FOUR)) == 3  # the times are out of order
    assert counted((0, 4, FOUR), (0.0001, 0, other)) == 2  # another packet of the same words


def test_what_tcpdump_records_on_any_interface_is_read_once(tmp_path: Path) -> None:
    path = shutil.which("tcpdump")
    if path is None:
        pytest.skip("tcpdump is not installed")
    file = tmp_path / "any.pcap"
    command = [path, "-i", "any", "-n", "-U", "-Z", "root", "-w", str(file), "udp port 5999"]
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here,
        subprocess.Popen(command, stderr=subprocess.PIPE) as dump,
    ):
        try:
            assert dump.stderr is not None
            if not any(b"listening" in line for line in iter(dump.stderr.readline, b"")):
                pytest.skip("tcpdump may not capture here")
            there.bind(("127.0.0.1", 5999))
            for word in (b"one", b"two"):
                here.sendto(word, ("127.0.0.1", 5999))
            until = time.monotonic() + 10
            while not file.exists() or b"two" not in file.read_bytes():
                assert time.monotonic() < until, "tcpdump has written nothing"
                select.select([dump.stderr], [], [], 0.01)
        finally:
            dump.terminate()  # it writes what it still has, and ends
    content = file.read_bytes()
    assert struct.unpack_from("<I", content, 20)[0] in (113, 276)
    assert [packet.body[8:] for packet in read(content)] == [b"one", b"two"]
    (flow,) = read_flows(read_packets(io.BytesIO(content), "any"), {ip_address("127.0.0.1")})
    assert flow.requests == 2


# --- limits and damage ---------------------------------------------------------------------------


@pytest.mark.parametrize("content", [of(FOUR, FOUR, FOUR), NG], ids=["pcap", "pcapng"])
def test_a_file_beyond_the_limits_is_refused_with_a_sentence(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit, words in (("LIMIT", 150, "larger than 150 bytes"), ("MOST", 2, "more than 2 packets")):
        with monkeypatch.context() as patch:
            patch.setattr(f"exposure_scan.transport.recording.{name}", limit)
            with pytest.raises(ValueError, match=rf"c\.pcap .*{words}"):
                read(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (of()[:24] + struct.pack("<IIII", 0, 0, 0xFFFFFFFF, 60), "packet 1 claims 4294967295 bytes"),
        (of()[:24] + struct.pack("<IIII", 0, 0, 262_145, 262_145), "packet 1 claims 262145 bytes"),
        (of()[:4] + b"\x09\0" + of()[6:24], "pcap version 9"),
        (NG[:28] + struct.pack("<II", 1, 0xFFFFFFFC), "block 2 claims 4294967292 bytes"),
        (NG[:28] + struct.pack("<II", 1, 8), "block 2 claims 8 bytes"),
        (section() + captured(0, 0, FOUR), "packet 1 is of an interface that was not described"),
        (section() + interface(RAW, (9, b"\0")) + captured(0, 2**63, FOUR), "packet 1 has a time of no calendar"),
        (section() + interface(RAW, (14, b"\xff" * 8)) + captured(0, 0, FOUR), "packet 1 has a time of no calendar"),
        (section() + interface(RAW) + block(6, bytes(12) + b"\xff\xff\0\0" * 2), "packet 1 is longer than its block"),
        (section() + interface(RAW) + block(6, b"x"), "packet 1 has no header"),
        (section()[:-4] + bytes(4), "block 1 ends with another length"),
        (section() + block(1, b"x"), "block 2 describes no interface"),
        (NG[:8] + bytes(20), "a section without a byte order"),
    ],
)
def test_a_damaged_file_is_refused_and_the_place_is_named(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read(content)
