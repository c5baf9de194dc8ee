"""The capture: what passed the wire, ours only, in a form that anybody's tool opens and that replays."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import peers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import (
    CONNECT,
    HOST,
    HOST6,
    ROUTER,
    SILENT,
    Make,
    admitted,
    anything,
    ask,
    everything,
    line,
    probe,
    read_events,
    run,
    script,
)

from exposure_scan.conversation import Event, Exchange, Send, replay
from exposure_scan.transport import Gate, record

Transport = Literal["tcp", "udp", "icmp"]


@pytest.fixture(scope="module", autouse=True)
def own_addresses() -> None:
    peers.own_addresses()


async def captured(
    gate: Gate, whom: Any, transport: Transport, port: int, make: Make, file: Path
) -> tuple[Exchange, bytes]:
    async with record(gate, [whom]) as capture:
        assert capture is not None
        exchange = await ask(gate, whom, transport, port, make)
    file.write_bytes(capture.pcap())  # noqa: ASYNC240 - nothing waits for this loop any more
    assert capture.complete
    return exchange, capture.pcap()


def events_of(exchange: Exchange, file: Path, transport: Transport) -> list[Event]:
    """The flow of the (only) connection, read back from the capture."""
    connected = next(event for event in exchange.events if event.what == "connected")
    local, peer = ((host, int(port)) for host, _, port in (end.rpartition("|") for end in connected.detail.split(" ")))
    return read_events(file, kind=transport, local=local, peer=peer)


async def mail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A mail server that speaks in crumbs. Synthetic."""
    words = {b"EHLO": b"250-synthetic.invalid\r\n250 HELP\r\n", b"QUIT": b"221 bye\r\n"}
    writer.write(b"220 synthetic")
    await asyncio.sleep(0.05)
    writer.write(b".invalid ESMTP\r\n")
    while said := await reader.readline():
        writer.write(words[said[:4]])
    writer.close()


@pytest.mark.parametrize("host", [HOST, HOST6])
def test_a_captured_tcp_conversation_replays_to_the_same_observation(host: str, tmp_path: Path) -> None:
    async def main() -> Exchange:
        gate, whom = admitted(host)
        async with peers.serving(mail, host) as port:
            return (await captured(gate, whom, "tcp", port, probe("greeting"), tmp_path / "c.pcap"))[0]

    exchange = run(main())
    assert exchange.observation.said["smtp.ehlo"] == "250-synthetic.invalid\n250 HELP"
    events = events_of(exchange, tmp_path / "c.pcap", "tcp")
    assert replay(probe("greeting")(), events, datagrams=False) == exchange.observation
    assert [event.ms for event in events] == sorted(event.ms for event in events)


@pytest.mark.parametrize("host", [HOST, HOST6])
def test_a_captured_udp_conversation_replays_to_the_same_observation(host: str, tmp_path: Path) -> None:
    talk = script(CONNECT, Send(b"one"), line(), Send(b""), anything(), Send(b"three"), everything(0.5))

    async def main() -> Exchange:
        gate, whom = admitted(host)
        async with peers.answering(lambda data: [b"no line", data + b"\n"] if data else [b""], host) as peer:
            return (await captured(gate, whom, "udp", peer.port, talk, tmp_path / "c.pcap"))[0]

    exchange = run(main())
    assert exchange.observation.notes[1:] == (r"enough b'one\n'", "enough b''", "silent b''")
    events = events_of(exchange, tmp_path / "c.pcap", "udp")
    assert replay(talk(), events, datagrams=True) == exchange.observation


@pytest.mark.parametrize(("host", "name"), [(HOST, "echo"), (HOST6, "echo6")])
def test_a_captured_ping_replays_to_the_same_observation(host: str, name: str, tmp_path: Path) -> None:
    async def main() -> Exchange:
        gate, whom = admitted(host)
        return (await captured(gate, whom, "icmp", 0, probe(name), tmp_path / "c.pcap"))[0]

    exchange = run(main())
    events = read_events(tmp_path / "c.pcap", kind="icmp", local=(host, 0), peer=(host, 0))
    assert [event.what for event in events] == ["connected", "sent", "received"]
    assert replay(probe(name)(), events, datagrams=True) == exchange.observation
    assert [event.data for event in events] == [event.data for event in exchange.events]


def test_refusals_are_read_back_from_the_capture(tmp_path: Path) -> None:
    talk = script(CONNECT, Send(b"a word"), everything())

    async def main() -> tuple[Exchange, Exchange, list[Exchange]]:
        gate, whom = admitted()
        udp, _ = await captured(gate, whom, "udp", peers.closed_port(socket.SOCK_DGRAM), talk, tmp_path / "udp")
        tcp, _ = await captured(gate, whom, "tcp", peers.closed_port(socket.SOCK_STREAM), talk, tmp_path / "tcp")
        gate, whom = admitted(SILENT)
        async with peers.router(3, 13, about=SILENT, says=ROUTER):
            routed, _ = await captured(gate, whom, "udp", 53, talk, tmp_path / "routed")
        return udp, tcp, [routed]

    udp, tcp, (routed,) = run(main())
    for exchange, name, by in ((udp, "udp", HOST), (routed, "routed", ROUTER)):
        events = events_of(exchange, tmp_path / name, "udp")
        assert [event.what for event in events] == ["connected", "sent", "icmp", "reset"]
        assert events[2].detail.endswith(f"from={by}")
        assert replay(talk(), events, datagrams=True) == exchange.observation
    from scapy.layers.inet import TCP
    from scapy.utils import rdpcap

    syn, reset = rdpcap(str(tmp_path / "tcp"))
    assert (str(syn[TCP].flags), str(reset[TCP].flags)) == ("S", "RA")
    events = read_events(tmp_path / "tcp", kind="tcp", local=(HOST, syn[TCP].sport), peer=(HOST, syn[TCP].dport))
    assert [(event.what, event.detail) for event in events] == [("not-connected", "rst")]
    assert replay(talk(), events, datagrams=False).notes == tcp.observation.notes


def test_another_programs_packets_to_the_same_host_are_not_kept(tmp_path: Path) -> None:
    foreign: set[int] = set()

    async def main() -> bytes:
        gate, whom = admitted()
        async with peers.serving(mail) as port, peers.answering(lambda data: [data]) as udp, peers.wire() as seen:

            def meddle() -> None:
                """Talk to the same services, past the gate, and have a router and the host complain of it."""
                with socket.create_connection((HOST, port)) as tcp, socket.socket(type=socket.SOCK_DGRAM) as sock:
                    sock.connect((HOST, udp.port))
                    foreign.update((tcp.getsockname()[1], sock.getsockname()[1]))
                    sock.send(b"foreign words")
                    seen.read()
                    packet = next(packet for packet in seen.packets if packet.endswith(b"foreign words"))
                    peers.send_error(ROUTER, HOST, 3, 13, packet)
                    peers.send_error(HOST, HOST, 3, 3, packet)
                with socket.socket(socket.AF_INET, socket.SOCK_RAW, 47) as tunnel:  # GRE, as of a VPN
                    tunnel.sendto(b"\0" * 8, (HOST, 0))

            async with record(gate, [whom]) as capture:
                assert capture is not None
                meddle()
                await ask(gate, whom, "tcp", port, probe("greeting"))
                await ask(gate, whom, "udp", udp.port, script(CONNECT, Send(b"our words"), anything()))
                meddle()
            return capture.pcap()

    pcap = run(main())
    (tmp_path / "c.pcap").write_bytes(pcap)
    assert b"EHLO" in pcap
    assert b"our words" in pcap
    assert b"foreign words" not in pcap
    from scapy.layers.inet import ICMP, TCP, UDP
    from scapy.utils import rdpcap

    packets = rdpcap(str(tmp_path / "c.pcap"))
    assert {layer for layer in (TCP, UDP, ICMP) for packet in packets if layer in packet} == {TCP, UDP}
    assert all(TCP in packet or UDP in packet for packet in packets)
    assert not {port for packet in packets for port in (packet.payload.sport, packet.payload.dport)} & foreign


def test_packets_of_hosts_that_are_not_captured_are_not_kept() -> None:
    async def main() -> None:
        gate, whom = admitted()
        other = peers.target(ROUTER)
        gate.admit(other)
        async with record(gate, [other]) as capture:
            assert capture is not None
            await ask(gate, whom, "icmp", 0, probe("echo"))
            assert len(capture.pcap()) == 24  # the file's header
            await ask(gate, other, "icmp", 0, probe("echo"))
        assert len(capture.pcap()) > 24

    run(main())


def test_without_the_right_there_is_no_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        gate, whom = admitted()
        monkeypatch.setattr(gate, "packet_capture", lambda: None)
        async with record(gate, [whom]) as capture:
            assert capture is None
            assert (await ask(gate, whom, "icmp", 0, probe("echo"))).state.value == "replied"

    run(main())


def test_a_capture_that_grows_too_large_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exposure_scan.transport.capture.LIMIT", 300)

    async def main() -> None:
        gate, whom = admitted()
        async with peers.answering(lambda data: [data]) as udp, record(gate, [whom]) as capture:
            assert capture is not None
            talk = script(CONNECT, Send(b"x" * 100), anything(), Send(b"y" * 100), anything())
            await ask(gate, whom, "udp", udp.port, talk)
        assert not capture.complete
        assert len(capture.pcap()) <= 300
        assert b"x" * 100 in capture.pcap()

    run(main())


# --- reading ------------------------------------------------------------------------------------

OURS, THEIRS = ("198.51.100.250", 40000), ("198.51.100.10", 25)
SYN, FIN, RST, ACK = 2, 1, 4, 16


def ip(source: str, destination: str, protocol: int, body: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0)
    return head + socket.inet_aton(source) + socket.inet_aton(destination) + body


def segment(outward: bool, sequence: int, flags: int, data: bytes = b"") -> bytes:
    (source, near), (destination, far) = (OURS, THEIRS) if outward else (THEIRS, OURS)
    acknowledged = 0 if outward else 8  # our SYN, which is number 7
    tcp = struct.pack("!HHIIBBHHH", near, far, sequence % 2**32, acknowledged, 0x50, flags, 1024, 0, 0)
    return ip(source, destination, 6, tcp + data)


def pcap(packets: Sequence[bytes], *, magic: int = 0xA1B2C3D4, parts: int = 1_000_000) -> bytes:
    """A capture with a packet every quarter of a second."""
    whole = struct.pack("<IHHiIII", magic, 2, 4, 0, 0, 65535, 101)
    for number, packet in enumerate(packets):
        whole += struct.pack("<IIII", 1000 + number // 4, number % 4 * (parts // 4), len(packet), len(packet)) + packet
    return whole


def opened(start: int) -> list[bytes]:
    return [segment(True, 7, SYN), segment(False, start - 1, SYN | ACK), segment(True, 8, ACK)]


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(min_size=1, max_size=60),
    start=st.sampled_from([1000, 0, 2**32 - 20, 2**31 - 5]),
    pieces=st.lists(st.tuples(st.integers(0, 59), st.integers(1, 30)), max_size=12),
    order=st.randoms(use_true_random=False),
)
def test_a_stream_is_put_in_order_and_nothing_counts_twice(
    data: bytes, start: int, pieces: list[tuple[int, int]], order: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cuts = [(at, 7) for at in range(0, len(data), 7)] + pieces  # all of it once, and any of it again
    packets = [segment(False, start + at, ACK, data[at : at + size]) for at, size in cuts if at < len(data)]
    packets += [segment(False, start + len(data), ACK | FIN)] * 2
    order.shuffle(packets)
    file = tmp_path_factory.getbasetemp() / "order.pcap"
    file.write_bytes(pcap(opened(start) + packets))
    events = read_events(file, kind="tcp", local=OURS, peer=THEIRS)
    assert [event.what for event in events if event.what != "received"] == ["connected", "closed"]
    assert events[-1].what == "closed"
    assert b"".join(event.data for event in events) == data


def test_a_gap_stops_the_stream_and_a_reset_ends_it(tmp_path: Path) -> None:
    file = tmp_path / "c.pcap"
    after = [segment(False, 1000, ACK, b"220 "), segment(False, 1010, ACK, b"lost before"), segment(False, 1004, RST)]
    file.write_bytes(pcap([*opened(1000), *after, segment(False, 1004, ACK, b"too late")]))
    events = read_events(file, kind="tcp", local=OURS, peer=THEIRS)
    assert [(event.what, event.data) for event in events] == [("connected", b""), ("received", b"220 "), ("reset", b"")]


def test_a_shorter_copy_does_not_take_the_place_of_a_longer_one(tmp_path: Path) -> None:
    file = tmp_path / "c.pcap"
    early = [segment(False, 1004, ACK, b"synthetic\r\n"), segment(False, 1004, ACK, b"syn")]
    file.write_bytes(pcap([*opened(1000), *early, segment(False, 1000, ACK, b"220 ")]))
    events = read_events(file, kind="tcp", local=OURS, peer=THEIRS)
    assert b"".join(event.data for event in events) == b"220 synthetic\r\n"


def test_other_flows_in_the_file_do_not_count(tmp_path: Path) -> None:
    file = tmp_path / "c.pcap"
    other = struct.pack("!HHHH", 40001, 25, 12, 0) + b"word"
    file.write_bytes(pcap([*opened(1000), ip("198.51.100.250", "198.51.100.10", 17, other), b"", b"\x45"]))
    assert len(read_events(file, kind="tcp", local=OURS, peer=THEIRS)) == 1
    assert read_events(file, kind="tcp", local=("198.51.100.250", 40002), peer=THEIRS) == []
    assert read_events(file, kind="udp", local=OURS, peer=THEIRS) == []


@pytest.mark.parametrize("form", ["raw", "nanoseconds", "pcapng", "ethernet"])
def test_captures_of_other_tools_are_read_with_their_times(form: str, tmp_path: Path) -> None:
    file = tmp_path / "c.pcap"
    packets = [*opened(1000), segment(False, 1000, ACK, b"220 synthetic\r\n")]
    file.write_bytes(pcap(packets))
    if form == "nanoseconds":
        file.write_bytes(pcap(packets, magic=0xA1B23C4D, parts=10**9))
    elif form != "raw":
        from scapy.layers.l2 import Ether
        from scapy.utils import rdpcap, wrpcap, wrpcapng

        read = rdpcap(str(file))
        if form == "pcapng":
            wrpcapng(str(file), read)
        else:
            frames = []
            for packet in read:
                frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet
                frame.time = packet.time
                frames.append(Ether(bytes(frame).ljust(60, b"\0")))  # the padding of a short frame
                frames[-1].time = packet.time
            wrpcap(str(file), frames)
    events = read_events(file, kind="tcp", local=OURS, peer=THEIRS)
    assert [(event.what, event.data) for event in events] == [("connected", b""), ("received", b"220 synthetic\r\n")]
    assert [event.ms for event in events] == [pytest.approx(250), pytest.approx(750)]


@pytest.mark.parametrize("content", [b"", b"no capture", b"\xd4\xc3\xb2\xa1", bytes(100), b"\n\r\r\n" + b"\xff" * 60])
def test_a_file_that_is_no_capture_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "c.pcap"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"c\.pcap"):
        read_events(file, kind="tcp", local=OURS, peer=THEIRS)


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_events(tmp_path / "none.pcap", kind="tcp", local=OURS, peer=THEIRS)


def test_a_damaged_capture_gives_events_or_a_refusal(tmp_path: Path) -> None:
    file = tmp_path / "c.pcap"
    whole = pcap([*opened(1000), segment(False, 1000, ACK, b"220 synthetic\r\n"), segment(False, 1015, FIN | ACK)])
    for at in range(len(whole)):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            file.write_bytes(damaged)
            with suppress(ValueError):
                read_events(file, kind="tcp", local=OURS, peer=THEIRS)
