"""Everything that reads what others wrote, in one table: what it is fed with, and which exceptions it declares.

A target's `run` takes any bytes. An exception that is not among its `raises` is a fault of the product, and so is a
failed `assert`: the sayings of a peer must not lead a conversation over its limits or to words that are not harmless.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from capture_files import FOUR, ip4, ip6, of, pcap, udp
from conversations import CALLER, DATAGRAMS, LOCAL, hold
from fuzz_scripts import Script, events_read, events_written, script_of
from fuzz_seeds import (
    LONGEST_CAPTURE,
    PACK,
    PCAPS,
    SITES,
    TORTURE,
    Transport,
    captures,
    certificates,
    file,
    folder,
    in_pcapng,
    recipes,
    recorded,
)
from hostile_bytes import Damage, damaged, damaged_json, damaged_toml, damaged_zip
from nmap_files import REAL, WHOLE
from sites_files import NOW

from exposure_scan import classify, evidence, history, nmap, report, sweep
from exposure_scan.conversation import Caller, ReplayError, Secured
from exposure_scan.model import Problem, Scan
from exposure_scan.nmap.said import read_record
from exposure_scan.protocols import FIELDS, PROBES, handshake
from exposure_scan.protocols.overheard import begun_by_host, overheard
from exposure_scan.protocols.tls import certificate_facts, certificate_notes
from exposure_scan.protocols.tls import said as tls_said
from exposure_scan.protocols.vantage import HELLO, answer
from exposure_scan.report.cited import chosen, contents
from exposure_scan.report.dialogue import dialogue
from exposure_scan.scope import read_sites_file
from exposure_scan.sweep import imported
from exposure_scan.sweep.overhearing import discreet
from exposure_scan.sweep.redacted import customer_copy
from exposure_scan.sweep.replayed import replayed
from exposure_scan.transport import Packet, read_flows, read_icmp, read_packets, segments
from exposure_scan.transport.icmp import IcmpError
from exposure_scan.transport.packets import parse
from exposure_scan.transport.pcap import cut

CORPUS = PCAPS / "malformed"
_KINDS: tuple[Transport, ...] = ("tcp", "udp", "icmp")
_KEY = b"a key of sixteen and more bytes"
_AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
_LAB = PCAPS / "lab"
_FORMATS = ("html", "json", "csv", "markdown", "sarif", "junit", "mail-html", "mail-text")


@dataclass(frozen=True)
class Target:
    """One reader. `group` is the figure that its inputs are counted in."""

    name: str
    group: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    raises: tuple[type[Exception], ...] = ()
    damage: Damage = field(default=damaged)

    def read(self, data: bytes) -> None:
        """Feed it: nothing comes out but what is declared, and a problem says something."""
        try:
            self.run(data)
        except self.raises as error:
            told = error.sentences if isinstance(error, Problem) else (str(error),)
            assert told and all(told), "it says what is wrong"  # noqa: PT018

    def kept(self) -> list[Path]:
        """The inputs that the corpus keeps for it."""
        return sorted((CORPUS / self.name).glob("*"))


# --- conversations --------------------------------------------------------------------------------------

HARMLESS = re.compile(
    rb"(?:EHLO exposure-scan\.invalid|STARTTLS|QUIT|x[1-3] (?:CAPABILITY|STARTTLS|LOGOUT)|CAPA|STLS)\r\n"
    rb"|GET / HTTP/1\.1\r\n(?:(?:Host|User-Agent|Accept|Connection|From): [^\r\n]*\r\n)*\r\n"
    rb"|exposure-scan-vantage/1 hello tcp/25 [0-9a-f]{32} [0-9a-f]{64} *\n"
    rb"|OPTIONS sip:[^\r\n ]* SIP/2\.0\r\n(?:[A-Z][A-Za-z-]*: [^\r\n]*\r\n)*\r\n"
)

# What leads a conversation further in, where no recipe does.
_LEADS = (
    b"220 x ESMTP\r\n", b"220-x\r\n220 FTP\r\n", b"250-STARTTLS\r\n250 ok\r\n", b"554 no\r\n", b"* OK\r\n",
    b"* BYE\r\n", b"* CAPABILITY STARTTLS\r\nx1 OK\r\n", b"x2 OK\r\n", b"+OK\r\n", b"+OK\r\nSTLS\r\n.\r\n",
    b"-ERR POP\r\n", b"SSH-2.0-x\r\n", b"RFB 003.008\n", b"\xff\xfd\x01\xff\xfa\x01\xff\xf0", b"HTTP/1.0 400 \r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n<title>",
    b"SIP/2.0 100 Trying\r\n\r\n", b"OPTIONS sip:a SIP/2.0\r\n\r\n", b"\0\5\0\1no\0", b"\0\3\0\1", b"0\x82\xff\xff",
    b"\x24", b"\0\0",
)  # fmt: skip


def _conversation(probe: str) -> Target:
    def run(data: bytes) -> None:
        script = Script.read(data)
        handshake_ = script.handshake(certificates()[0])
        talk = hold(probe, script.peer(), tls=handshake_, connects=script.connects or 99)
        seen = talk.observation
        assert seen.service is None or seen.answered
        assert seen.answered or not seen.valid
        assert len(seen.banner or "") <= 1000
        if probe not in DATAGRAMS:
            for words in talk.sent:
                assert HARMLESS.fullmatch(words), words

    def seeds() -> Sequence[bytes]:
        alike = [
            recipe for recipe in recipes().values() if (recipe.question.probe in DATAGRAMS) == (probe in DATAGRAMS)
        ]
        own = [recipe for recipe in alike if recipe.question.probe == probe] or alike
        told = [script_of(recipe.events) for recipe in own] * 8  # what it understands, rather than what it does not
        torture = [path.read_bytes() for path in sorted(TORTURE.glob("*.sip"))] if "sip" in probe else []
        told += [Script([[], [data]] * 2) for data in (*_LEADS, *torture)]
        if probe not in DATAGRAMS:
            told += [Script([[lead]], tls) for lead in _LEADS for tls in (1, 2)]
        return tuple(script.written() for script in told)

    return Target(f"says-{probe}", "conversations", run, cache(seeds))


# --- what passes the wire ----------------------------------------------------------------------------------


def _overheard(data: bytes) -> None:
    transport, events = _KINDS[data[0] % 3 if data else 0], events_read(data[1:])
    seen = overheard(transport, events)
    begun_by_host(transport, events)
    assert set(seen.said) <= FIELDS
    assert len(seen.banner or "") <= 1000
    assert all(len(text) <= 1000 for text in seen.said.values())
    assert seen.answered or not seen.service
    kept = discreet(events)
    assert sum(len(event.data) for event in kept) <= 65536
    assert overheard(transport, kept).service in (None, seen.service)


def _overheard_seeds() -> Sequence[bytes]:
    return tuple(bytes([_KINDS.index(kind)]) + events_written(events) for kind, events in recorded())


def _certificate(data: bytes) -> None:
    facts = certificate_facts(Secured("TLSv1.2", "X", data))
    assert (facts.version, facts.cipher, facts.sha256 is None) == ("TLSv1.2", "X", not data)
    assert all(len(name) <= 1000 for name in (*facts.names, facts.subject, facts.issuer))
    assert set(tls_said(facts)) <= FIELDS
    certificate_notes(facts, _AT)


def _handshake(data: bytes) -> None:
    handshake.is_tls(data)
    if (secured := handshake.overheard(data)) is not None:
        certificate_facts(secured)


def _handshake_seeds() -> Sequence[bytes]:
    streams = ([h.event for h in recipe.enciphered] for recipe in recipes().values() if recipe.enciphered)
    return tuple(b"".join(event.data for event in events if event.what == "received") for events in streams)


def _packet(data: bytes) -> None:
    packet = parse(data)
    if packet is not None and (quoted := packet.quoted) is not None:
        error = IcmpError(packet.body[0], packet.body[1], packet.source)
        assert read_icmp(error.detail) == error
        assert error.reason
        assert str(quoted.destination)
    if len(data) >= 40:  # shorter ones do not come so far (`wire`)
        segments.read(data)


def _packet_seeds() -> Sequence[bytes]:
    # Each packet of a capture stands behind 16 bytes of its own.
    return tuple(data[40 : 40 + int.from_bytes(data[32:36], "little")] for data, _ in captures() if len(data) > 40)


def _vantage(data: bytes) -> None:
    said = answer(_KEY, data, "udp/25", LOCAL)
    assert said is None or len(said) <= HELLO == len(data)


def _vantage_seeds() -> Sequence[bytes]:
    whom = Caller(CALLER.product, CALLER.contact, _KEY)
    words = [hold(f"vantage-{transport}", caller=whom).sent[0] for transport in ("tcp", "udp")]
    assert answer(_KEY, words[1], "udp/25", LOCAL) is not None
    return tuple(words)


# --- captures ------------------------------------------------------------------------------------------------


_LINKS = (0, 1, 9, 12, 101, 108, 113, 228, 229, 276)


def _capture(data: bytes) -> None:
    packets: list[Packet] = []
    with suppress(ValueError):
        packets += read_packets(io.BytesIO(data), "c.pcap")
    for packet in packets:
        assert packet.quoted is None or packet.frames
    hosts = {address for packet in packets[:50] for address in (packet.source, packet.destination)}
    for flow in read_flows(packets, hosts):
        assert flow.frames
        assert [event.ms for event in flow.events] == sorted(event.ms for event in flow.events)
        assert flow.whole in (True, False)
        overheard(flow.transport, flow.events)
    cut(data, [range(1, 3), range(100, 10_000)])


def _capture_seeds() -> Sequence[bytes]:
    whole = [data for data, _ in captures()] + [path.read_bytes()[:LONGEST_CAPTURE] for path in _LAB.glob("*.pcap")]
    links = [pcap([(0, bytes(14 if link == 1 else 4) + FOUR)], link) for link in _LINKS]
    parts = of(
        *(ip4(udp(b"x"), fragment=flags) for flags in (0x2000, 1)), *(ip6(bytes(48), kind) for kind in (0, 43, 44))
    )
    return (*(form for data in sorted(whole) for form in (data, in_pcapng(data))), *links, parts)


@cache
def _hosts() -> tuple[str, ...]:
    return tuple(dict.fromkeys(host for _, host in captures()))


def _replay(data: bytes) -> None:
    """A scan that is made of a capture follows from its own evidence, saved and read again."""
    host = _hosts()[data[0] % len(_hosts()) if data else 0]
    seen = replayed(file("fuzz.pcap", data[1:]), [host]).result.scan
    saved = report.load_scan(seen.to_json())
    assert sweep.differences(saved, sweep.rederive(saved)) == []


def _replay_seeds() -> Sequence[bytes]:
    return tuple(bytes([_hosts().index(host)]) + form for data, host in captures() for form in (data, in_pcapng(data)))


# --- files -----------------------------------------------------------------------------------------------------


def _nmap(data: bytes) -> None:
    seen = imported.from_nmap(io.BytesIO(data), "file.xml").scan
    saved = report.load_scan(seen.to_json())
    assert sweep.differences(saved, sweep.rederive(saved)) == []


def _nmap_seeds() -> Sequence[bytes]:
    return (WHOLE, *(path.read_bytes() for path in sorted(REAL.glob("*.xml"))))


def _nmap_record(data: bytes) -> None:
    kind, text = _KINDS[data[0] % 3 if data else 0], data[1:].decode("utf-8", "replace")
    rows = list(read_record(text))
    assert all(isinstance(value, str) for _, values in rows for value in values.values())
    seen = nmap.seen(kind, "198.51.100.10", text)
    assert set(seen.observation.said) <= FIELDS


def _nmap_record_seeds() -> Sequence[bytes]:
    ports = (
        port
        for data in _nmap_seeds()
        for host in nmap.read_nmap(io.BytesIO(data), "f").hosts.values()
        for port in host.ports
    )
    told = [bytes([_KINDS.index(port.transport)]) + nmap.record(port).encode() for port in ports]
    return (*told, b"\2" + nmap.host_record("up", "echo-reply").encode())


def _sites(data: bytes) -> None:
    try:
        read = read_sites_file(file("sites.toml", data), clock=lambda: NOW)
    except Problem as problem:
        for sentence in problem.sentences:
            assert sentence.isprintable() and len(sentence) < 700  # noqa: PT018
        raise
    for order in read.orders:
        assert read.order(order.site.name) == order


def _sites_seeds() -> Sequence[bytes]:
    lab = Path(__file__).parents[1] / "exposure_scan" / "lab" / "sites.toml"
    return (lab.read_bytes(), SITES)


def _pack(data: bytes) -> None:
    packs = folder() / "packs"
    packs.mkdir(exist_ok=True)
    (packs / "fuzz.toml").write_bytes(data)
    known = classify.read_packs(packs)
    for name, pack in known.packs.items():
        again, _ = classify.read_pack(pack.text, name)
        assert again == pack


# --- saved scans and bundles ---------------------------------------------------------------------------------------


def _shortened(scan: Scan) -> Scan:
    """A few pieces of evidence of each kind, so that damage meets something that matters."""
    kept = {(proof.kind, proof.probe, proof.purpose, proof.state): proof for proof in scan.evidence}
    return scan.model_copy(update={"evidence": tuple(kept.values())})


@cache
def _saved() -> tuple[Scan, ...]:
    """Scans of every origin: our own, a capture's, Nmap's; and one that keeps a pack."""
    own = [report.load_scan((_LAB / f"{site}.json").read_text()) for site in ("exposed-server", "moved-voicemail")]
    data, host = next(pair for pair in captures() if b"SIP/2.0 200" in pair[0])
    others = [replayed(file("seed.pcap", data), [host]).result.scan, imported.from_nmap(io.BytesIO(WHOLE), "f").scan]
    pack, _ = classify.read_pack(PACK.decode(), "bench-px.toml")
    kept = others[0].model_copy(update={"packs": (pack,)})
    return (*(sweep.rederive(_shortened(scan)) for scan in own), *others, kept)


def _scan_seeds() -> Sequence[bytes]:
    return tuple(scan.to_json().encode() for scan in _saved())


def _loaded(data: bytes) -> Scan:
    return report.load_scan(data.decode("utf-8", "replace"))


def _rendered(data: bytes) -> None:
    """Whatever a document says that is a scan by its form, every report can be made of it."""
    scan = _loaded(data)
    for format_ in _FORMATS:
        sweep.render(scan, format_, earlier=[scan])
    history.look_of(scan)


def _shown(data: bytes) -> None:
    from rich.console import Console

    scan = _loaded(data)
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(report.summary(scan, verbose=True))
    console.print(contents(scan))
    for name in [finding.practice for finding in scan.findings[:3]]:
        console.print(dialogue(scan, *chosen(scan, name)))
    console.print(dialogue(scan, (), scan.evidence))


def _derived(data: bytes) -> None:
    scan = _loaded(data)
    sweep.differences(scan, sweep.rederive(scan))


def _copied(data: bytes) -> None:
    sweep.write_bundle(folder() / "copy.zip", customer_copy(_loaded(data)))


def _bundle(data: bytes) -> None:
    """As `verify` does."""
    path = file("fuzz.zip", data)
    kept = evidence.read_bundle(path)
    saved = report.load_scan(kept.scan)
    made = sweep.rederive(saved)
    sweep.disagreements(saved, kept.capture, path.name)
    sweep.differences(saved, made)
    sweep.changed(saved, made)


def _bundle_seeds() -> Sequence[bytes]:
    data, host = next(pair for pair in captures() if b"SIP/2.0 200" in pair[0])
    results = [replayed(file("seed.pcap", data), [host]).result]
    results.append(customer_copy(results[0].scan))
    found = []
    for result in results:
        sweep.write_bundle(folder() / "seed.zip", result)
        found.append((folder() / "seed.zip").read_bytes())
    return tuple(found)


# --- the table -----------------------------------------------------------------------------------------------------

_OFFLINE = (Problem, ValueError, ReplayError)

TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        *map(_conversation, sorted(PROBES)),
        Target("overheard", "what passes the wire", _overheard, cache(_overheard_seeds)),
        Target("certificate", "what passes the wire", _certificate, certificates),
        Target("handshake", "what passes the wire", _handshake, cache(_handshake_seeds)),
        Target("packet", "what passes the wire", _packet, cache(_packet_seeds)),
        Target("vantage-hello", "what passes the wire", _vantage, cache(_vantage_seeds)),
        Target("capture", "captures", _capture, cache(_capture_seeds), (ValueError,)),
        Target("replay", "captures", _replay, cache(_replay_seeds), (Problem,)),
        Target("nmap", "files", _nmap, cache(_nmap_seeds), (Problem,)),
        Target("nmap-record", "files", _nmap_record, cache(_nmap_record_seeds), (ValueError,)),
        Target("sites", "files", _sites, cache(_sites_seeds), (Problem,), damaged_toml),
        Target("pack", "files", _pack, lambda: (PACK,), (Problem,), damaged_toml),
        Target("scan-rendered", "saved scans", _rendered, cache(_scan_seeds), (Problem,), damaged_json),
        Target("scan-shown", "saved scans", _shown, cache(_scan_seeds), (Problem,), damaged_json),
        Target("scan-derived", "saved scans", _derived, cache(_scan_seeds), _OFFLINE, damaged_json),
        Target("scan-copied", "saved scans", _copied, cache(_scan_seeds), (Problem,), damaged_json),
        Target("bundle", "saved scans", _bundle, cache(_bundle_seeds), _OFFLINE, damaged_zip),
    )
}
