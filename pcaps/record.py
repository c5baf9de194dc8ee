"""Ask a real server, or the practice site, and write the recipes: ``record.py SERVER...``, or ``record.py all``.

As root, where no way leads out, with the servers of `tests/install_servers.sh` and iproute2 on the machine:
``PYTHONPATH=tests .venv/bin/python -m exposure_scan.lab.namespace -- .venv/bin/python pcaps/record.py all``,
then `make pcaps`. Times, what TLS draws by chance, and the ports of our own are new each time.
"""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from types import MappingProxyType
from typing import Literal

import real_servers as real
import recipes
from real_processes import UNPACKED, Place, add, place

from exposure_scan import lab
from exposure_scan.conversation import Exchange
from exposure_scan.lab.namespace import SCANNER
from exposure_scan.model import Authorization, Question, Target
from exposure_scan.protocols import conversation
from exposure_scan.transport import Gate, converse

_SITE = "lab: a practice device; exposure_scan/lab/devices.py says which of its words are verified, which synthetic"
_KERNEL = "lab: the Linux kernel, at the address of a practice device"
_NOBODY = "lab: an address that nobody owns"


@dataclass(frozen=True, slots=True)
class Ask:
    """One recipe to write, and what to ask for it. `of` is the address of a practice device."""

    name: str  # folder and name
    transport: Literal["tcp", "udp", "icmp"]
    port: int
    probe: str
    of: str = ""
    origin: str = _SITE


@dataclass(frozen=True, slots=True)
class Server:
    """A real server: its Debian package, the last number of its address, how it starts, and what to ask."""

    package: str
    number: int
    start: Callable[[Place], AbstractContextManager[None]]
    asks: tuple[Ask, ...]


SERVERS: Mapping[str, Server] = MappingProxyType(
    {
        "kamailio": Server(
            "kamailio",
            60,
            real.kamailio,
            (
                Ask("sip/kamailio-udp", "udp", 5060, "sip-udp"),
                Ask("sip/kamailio-tcp", "tcp", 5060, "sip"),
                Ask("sip/kamailio-tls", "tcp", 5061, "tls-sip"),
            ),
        ),
        "baresip": Server(
            "baresip-core",
            61,
            real.baresip,
            (
                Ask("sip/baresip-udp", "udp", 5060, "sip-udp"),
                Ask("sip/baresip-tcp", "tcp", 5060, "sip"),
                Ask("sip/baresip-tls", "tcp", 5061, "tls-sip"),
            ),
        ),
        "postfix": Server(
            "postfix",
            62,
            partial(real.postfix, ports={25: "starttls", 465: "tls", 2525: "clear"}),
            (
                Ask("smtp/postfix-starttls", "tcp", 25, "greeting"),
                Ask("smtp/postfix-tls", "tcp", 465, "tls-greeting"),
                Ask("smtp/postfix-clear", "tcp", 2525, "moved"),
            ),
        ),
        "exim": Server("exim4-daemon-light", 63, real.exim, (Ask("smtp/exim-starttls", "tcp", 25, "greeting"),)),
        "dovecot": Server(
            "dovecot-core",
            64,
            partial(real.dovecot, imap={143: "starttls", 993: "tls"}, pop3={110: "starttls", 995: "tls"}),
            (
                Ask("imap/dovecot-starttls", "tcp", 143, "greeting"),
                Ask("imap/dovecot-tls", "tcp", 993, "tls-greeting"),
                Ask("pop3/dovecot-starttls", "tcp", 110, "greeting"),
                Ask("pop3/dovecot-tls", "tcp", 995, "tls-greeting"),
            ),
        ),
        "courier": Server(
            "courier-base",
            65,
            real.courier,
            (
                Ask("imap/courier-starttls", "tcp", 143, "greeting"),
                Ask("pop3/courier-starttls", "tcp", 110, "greeting"),
            ),
        ),
        "nginx": Server(
            "nginx",
            66,
            real.nginx,
            (
                Ask("http/nginx", "tcp", 80, "http"),
                Ask("http/nginx-on-8080", "tcp", 8080, "http"),
                Ask("tls/nginx-tls-1-2", "tcp", 443, "tls-http"),
                Ask("tls/nginx-tls-1-3", "tcp", 8443, "tls-http"),
                Ask("tls/nginx-asked-in-clear-text", "tcp", 443, "http"),
            ),
        ),
        "vsftpd": Server("vsftpd", 67, real.vsftpd, (Ask("ftp/vsftpd", "tcp", 21, "greeting"),)),
        "snmpd": Server("snmpd", 68, real.snmpd, (Ask("snmp/net-snmp", "udp", 161, "snmp"),)),
    }
)

LAB = (
    Ask("sip/lab-server-udp", "udp", 5060, "sip-udp", "198.51.100.10"),
    Ask("sip/lab-server-tcp", "tcp", 5060, "sip", "198.51.100.10"),
    Ask("sip/lab-server-tls", "tcp", 5061, "tls-sip", "198.51.100.50"),
    Ask("sip/lab-server-udp-ipv6", "udp", 5060, "sip-udp", "2001:db8::10"),
    Ask("sip/silent", "udp", 5060, "sip-udp", "198.51.100.40", _NOBODY),
    Ask("smtp/lab-server", "tcp", 25, "greeting", "198.51.100.10"),
    Ask("imap/lab-server", "tcp", 143, "greeting", "198.51.100.10"),
    Ask("imap/lab-server-starttls", "tcp", 1143, "moved", "198.51.100.50"),
    Ask("pop3/lab-server", "tcp", 110, "greeting", "198.51.100.10"),
    Ask("http/lab-server", "tcp", 80, "http", "198.51.100.10"),
    Ask("http/lab-server-admin-page", "tcp", 8080, "http", "198.51.100.10"),
    Ask("http/lab-handset", "tcp", 80, "http", "198.51.100.20"),
    Ask("icmp/echo", "icmp", 0, "echo", "198.51.100.10", _KERNEL),
    Ask("icmp/echo-ipv6", "icmp", 0, "echo6", "2001:db8::10", _KERNEL),
    Ask("icmp/silent", "icmp", 0, "echo", "198.51.100.40", _NOBODY),
    Ask("icmp/port-unreachable", "udp", 123, "ntp", "198.51.100.10", _KERNEL),
    Ask("icmp/port-unreachable-ipv6", "udp", 53, "dns", "2001:db8::10", _KERNEL),
)


async def _ask(asks: Sequence[Ask], address: str = "") -> list[Exchange]:
    gate = Gate()

    async def one(ask: Ask) -> Exchange:
        target = Target(ip_address(ask.of or address), (), Authorization(by="practice site"), burst=200)
        gate.admit(target)
        question = Question(ask.transport, ask.port, ask.probe)
        talk = conversation(ask.probe, recipes.TOKEN, recipes.CALLER)
        return await converse(gate, target, question, talk)

    return await asyncio.gather(*map(one, asks))


def _write(asks: Sequence[Ask], exchanges: Sequence[Exchange], origin: str = "") -> None:
    for ask, exchange in zip(asks, exchanges, strict=True):
        recipe = recipes.recipe_of(exchange, token=recipes.TOKEN, origin=origin or ask.origin)
        path = recipes.HERE / f"{ask.name}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(recipe.to_toml(), "utf-8")


def _reached_from_outside(address: str) -> None:
    """Have the kernel speak to its own `address` from the scanner's, so that both ends can be told apart."""
    scanner = SCANNER[":" in address]
    local = ["local", address, "dev", "lo", "table", "local"]
    for words in (["del", *local], ["add", *local, "src", scanner]):
        command = ["ip", "-6" if ":" in address else "-4", "route", *words]
        subprocess.run(command, check=True)  # noqa: S603 - addresses of ours


def _version(package: str) -> str:
    """The package as Debian names it, installed or unpacked: ``kamailio 5.6.3-2``."""
    notes = sorted((UNPACKED / "usr/share/doc" / package).glob("changelog.Debian*.gz"))  # a rebuild's own first
    if notes:
        words = gzip.decompress(notes[0].read_bytes()).decode("utf-8").split(maxsplit=2)
        return f"{package} {words[1].strip('()')}"
    words = ["dpkg-query", "--show", "--showformat=${Package} ${Version}", package]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout  # noqa: S603 - a fixed command


def record(name: str) -> None:
    """Write the recipes of one server, or of the practice site ("lab").

    Raises:
        KeyError: there is no such server here.
        Unavailable: it cannot run on this machine.
    """
    if name == "lab":
        with lab.running():
            for owned in sorted({ask.of for ask in LAB if ask.origin != _NOBODY}):
                _reached_from_outside(owned)
            _write(LAB, asyncio.run(_ask(LAB)))
        return
    server = SERVERS[name]
    address = f"198.51.100.{server.number}"
    add(address)
    _reached_from_outside(address)
    with place(server.number) as where, server.start(replace(where, addresses=(address,))):
        exchanges = asyncio.run(_ask(server.asks, address))
    _write(server.asks, exchanges, f"Debian 12, {_version(server.package)}, as tests/real_servers.py starts it")


if __name__ == "__main__":
    assert lab.inside(), "record.py asks over the network, so it must run where no way leads out; see its beginning"
    known = ("lab", *SERVERS)
    names = known if sys.argv[1:] == ["all"] else tuple(sys.argv[1:])
    if not names or not set(names) <= set(known):
        raise SystemExit(f"usage: record.py all, or some of: {' '.join(known)}")
    for wanted in names:
        record(wanted)
