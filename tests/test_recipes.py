"""The recipes in pcaps/: each gives its capture byte for byte, and both give the same words to its conversation."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from test_pcaps import LAB, in_the_clear

from exposure_scan.conversation import Event
from exposure_scan.transport import Flow, read_flows, read_packets

sys.path.append(str(Path(__file__).parents[1] / "pcaps"))
import recipes

PCAPS = LAB.parent
NAMES = [str(path.relative_to(PCAPS).with_suffix("")) for path in recipes.paths()]
PROTOCOLS = {"sip", "smtp", "imap", "pop3", "http", "ftp", "tls", "dns", "ntp", "snmp", "ike", "l2tp", "tftp", "icmp"}
OURS, OURS6 = "198.51.100.250", "2001:db8::250"
DOCUMENTATION = (ip_network("198.51.100.0/24"), ip_network("2001:db8::/32"))  # RFC 5737, RFC 3849
PCAP_HEADER = 24  # bytes
LARGEST = 20480  # bytes of a capture


@cache
def recipe(name: str) -> recipes.Recipe:
    return recipes.read(PCAPS / f"{name}.toml")


def flows(name: str) -> list[Flow]:
    """The conversation's flows as the capture tells them."""
    peer = next(event.detail.split(" ")[1].split("|")[0] for event in recipe(name).events if event.detail)
    with (PCAPS / f"{name}.pcap").open("rb") as file:
        return read_flows(read_packets(file, name), {ip_address(peer)})


def words(events: list[Event], ours: bool) -> bytes:
    return b"".join(event.data for event in events if event.what == ("sent" if ours else "received"))


every_recipe = pytest.mark.parametrize("name", NAMES)


def test_each_protocol_has_its_folder_and_each_capture_its_recipe() -> None:
    assert {name.split("/")[0] for name in NAMES} == PROTOCOLS
    captures = {str(path.relative_to(PCAPS).with_suffix("")) for path in PCAPS.glob("*/*.pcap")}
    assert {name for name in captures if not name.startswith("lab/")} == set(NAMES)
    for protocol in PROTOCOLS:
        assert sum(name.startswith(f"{protocol}/malformed-") for name in NAMES) >= 3, protocol


@every_recipe
def test_the_capture_is_rebuilt_from_its_recipe_byte_for_byte(name: str) -> None:
    capture = (PCAPS / f"{name}.pcap").read_bytes()
    assert recipe(name).rebuilt() == capture, "the recipe or the way of rebuilding has changed: make pcaps"
    assert len(capture) <= LARGEST


@every_recipe
def test_the_conversation_concludes_from_the_events_what_the_recipe_says(name: str) -> None:
    outcome = recipe(name).outcome
    assert outcome.model_copy(update=recipes.outcome_of(recipe(name).replayed())) == outcome


@every_recipe
def test_the_packets_alone_give_the_same(name: str) -> None:
    whole = [event for flow in flows(name) for event in flow.events]
    clear = in_the_clear(whole)
    seen, outcome = recipe(name).replayed(clear), recipe(name).outcome
    if len(clear) == len(whole):
        assert outcome.model_copy(update=recipes.outcome_of(seen)) == outcome
    elif not recipe(name).question.probe.startswith("tls"):  # what was said before TLS
        assert seen.service == outcome.service
        assert seen.banner == outcome.banner or recipe(name).question.probe == "http", "inside, the page is another"


@every_recipe
def test_what_tls_made_of_the_words_is_on_the_wire(name: str) -> None:
    inside = [happening.event for happening in recipe(name).enciphered]
    whole = [event for flow in flows(name) for event in flow.events]
    for ours in (True, False):
        assert words(inside, ours) in words(whole, ours)
    assert recipe(name).outcome.tls is None or len(inside) >= 4


@every_recipe
def test_a_recipe_says_who_spoke_and_a_malformed_one_is_never_valid(name: str) -> None:
    made, kind = recipe(name), name.split("/")[1].split("-")[0]
    if kind in ("malformed", "odd"):
        assert made.origin.startswith(f"{kind}: synthetic, ")
        assert made.breaks
        assert made.outcome.valid == (kind == "odd"), "odd: it breaks a rule and is understood all the same"
    else:
        assert made.origin.startswith(("Debian 12, ", "lab: ", "synthetic: "))
        assert made.breaks is None


@every_recipe
def test_both_ends_have_documentation_addresses(name: str) -> None:
    for flow in flows(name):
        assert flow.local[0] in (OURS, OURS6)
        assert any(ip_address(flow.peer[0]) in network for network in DOCUMENTATION)


@every_recipe
def test_a_recipe_that_is_written_anew_tells_the_same(name: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.toml"
    copy.write_text(recipe(name).to_toml(), "utf-8")
    assert recipes.read(copy) == recipe(name)


# --- what another program makes of the packets ----------------------------------------------------


def tshark(folder: Path, captures: list[Path], *words: str) -> list[list[str]]:
    """The fields that tshark prints, of all the captures in one run: a start takes it half a second."""
    if shutil.which("tshark") is None:
        pytest.skip("Debian's package tshark is not there (tests/install_servers.sh)")
    merged = folder / "merged.pcap"
    contents = [capture.read_bytes() for capture in captures]
    merged.write_bytes(contents[0][:PCAP_HEADER] + b"".join(content[PCAP_HEADER:] for content in contents))
    command = ["tshark", "-n", "-r", str(merged), "-T", "fields", "-e", "frame.number", "-e", "ip.src", *words]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=60)
    return [line.split("\t") for line in done.stdout.splitlines()]


FAULTS = "_ws.malformed || _ws.expert.severity == error"
TO_A_SERVICE = "tcp.dstport < 10000 || udp.dstport < 10000 || icmp.type == 8 || icmpv6.type == 128"
SUMS = ("ip", "tcp", "udp", "icmp", "icmpv6")
CHECKED = [word for name in SUMS[:3] for word in ("-o", f"{name}.check_checksum:TRUE")]
BAD, GOOD = "0", "1"


def rebuilt() -> list[Path]:
    return [PCAPS / f"{name}.pcap" for name in NAMES]


def test_nothing_that_we_send_is_malformed_to_wireshark(tmp_path: Path) -> None:
    found = tshark(tmp_path, rebuilt(), "-e", "ipv6.src", "-Y", FAULTS)
    assert [row for row in found if OURS in row or OURS6 in row] == []
    assert found, "the filter sees what is malformed: some peers' packets are"
    on_the_wire = sorted(LAB.glob("*.pcap"))
    assert len(tshark(tmp_path, on_the_wire, "-Y", TO_A_SERVICE)) > 100
    assert tshark(tmp_path, on_the_wire, "-Y", f"({FAULTS}) && ({TO_A_SERVICE})") == []


def test_every_checksum_of_a_rebuilt_packet_is_right(tmp_path: Path) -> None:
    fields = [word for name in SUMS for word in ("-e", f"{name}.checksum.status")]
    rows = tshark(tmp_path, rebuilt(), *fields, *CHECKED)
    assert len(rows) > 10 * len(PROTOCOLS)
    for number, source, of_ip, *others in rows:
        assert BAD not in "".join((of_ip, *others)), number
        assert GOOD in "".join(others), number
        assert (GOOD in of_ip) == bool(source), number


def test_the_keys_of_a_recipe_open_its_capture(tmp_path: Path) -> None:
    """The certificate of TLS 1.3 is enciphered: Wireshark sees it only with the keys, in the right bytes."""
    names = [name for name in NAMES if recipe(name).keys]
    log = tmp_path / "keys"
    log.write_text("".join(f"{line}\n" for name in names for line in recipe(name).keys), "ascii")
    options = ("-o", f"tls.keylog_file:{log}", "-Y", "tls.handshake.certificate", "-e", "tls.handshake.certificate")
    captures = [PCAPS / f"{name}.pcap" for name in names]
    seen = {row[-1].replace(":", "") for row in tshark(tmp_path, captures, *options)}
    secured = [event for name in names for event in recipe(name).events if event.what == "secured"]
    assert {event.detail.split(" ")[2] for event in secured} == seen
    assert len(secured) == len(names) > len(PROTOCOLS)
