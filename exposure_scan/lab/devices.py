"""The practice site's devices: who stands at which address, and the words that each of them says.

Real devices are copied only as far as their words are known. Each text below is marked *verified* (its
literal parts stand in a signature of nmap's nmap-service-probes at commit db4aefddf; F1 to F5 are the
numbers of the facts page) or *synthetic* (made up here, because no source shows what a real device says).
Nothing synthetic may become a fingerprint.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

STOP_SECONDS = 10.0  # for the devices' process to end by itself


@dataclass(frozen=True, slots=True)
class Service:
    """One port of a device: how it is reached, which protocol it speaks, and its first words."""

    transport: Literal["tcp", "udp", "tls"]
    port: int
    speaks: Literal["sip", "smtp", "imap", "pop3", "http"]
    words: bytes = b""  # the greeting, or the whole answer of a web page with @DATE@ where the time goes
    starttls: bool = False


@dataclass(frozen=True, slots=True)
class Device:
    """One emulated device. Ports that it does not serve refuse; where it owns no address, all is silent."""

    name: str
    address: str  # the one that the sites file names
    owned: tuple[str, ...]  # the addresses that exist; none for a site that stays silent
    services: tuple[Service, ...] = ()

    @property
    def host(self) -> str:
        """The name it gives itself in greetings and certificates: synthetic, under .invalid (RFC 2606)."""
        return f"pbx.{self.name}.invalid"


def _web(status: bytes, headers: tuple[bytes, ...], body: bytes = b"") -> bytes:
    return b"\r\n".join([b"HTTP/1.0 " + status, *headers, b"", body])


def _smtp_greeting(host: str) -> bytes:
    """F1, verified; the host is ours."""
    return f"220 {host} InSciTek OIS Ready here ESMTP\r\n".encode()


def _pop3_greeting(host: str) -> bytes:
    """F2, verified; the host and the APOP stamp are ours."""
    return f"+OK POP3 Server {host} (InSciTek OIS) ready <1.1@{host}>\r\n".encode()


# Synthetic: no source shows an Allworx IMAP greeting.
_IMAP_GREETING = b"* OK IMAP4rev1 ready\r\n"

# F4: title, header order and length verified; the rest of the body synthetic.
_HOSTED_PAGE = (
    b"<html><head><title>Allworx Hosted Web Site</title></head>\n"
    b"<body><p>Practice site of exposure-scan. This text is synthetic.</p></body></html>\n"
).ljust(4240)
_HOSTED = _web(
    b"200 OK",
    (
        b"Accept-Ranges: none",
        b"Connection: close",
        b"Content-Encoding: identity",
        b"Content-Length: 4240",
        b"Content-Type: text/html; charset=ISO-8859-1",
        b"Date: @DATE@",
        b"Server: IST OIS",
    ),
    _HOSTED_PAGE,
)

# F5, verified throughout.
_ADMIN_REFUSED = _web(
    b"403 Forbidden",
    (
        b"Accept-Ranges: none",
        b"Connection: close",
        b"Content-Encoding: identity",
        b"Content-Length: 0",
        b"Content-Type: text/plain",
        b"Date: @DATE@",
        b"Server: IST OIS",
    ),
)

# F3: status, Server and title (with its entities) verified; the other headers and the body synthetic.
_HANDSET = _web(
    b"200 OK",
    (b"Content-Type: text/html", b"Server: IST OIS"),
    b"<html><head><title>Phone&nbsp;Station&nbsp;Information</title></head>\n"
    b"<body><p>Practice site of exposure-scan. This text is synthetic.</p></body></html>\n",
)

# Synthetic: no source shows a Px's page, and nothing on the wire is known to tell a Px.
_PORT_EXPANDER = _web(
    b"200 OK",
    (b"Content-Type: text/html",),
    b"<html><head><title>Port Expander (synthetic)</title></head>\n"
    b"<body><p>Practice site of exposure-scan. This text is synthetic.</p></body></html>\n",
)

DEVICES = (
    Device(
        "exposed-server",
        "198.51.100.10",
        ("198.51.100.10", "2001:db8::10"),
        (
            Service("udp", 5060, "sip"),
            Service("tcp", 5060, "sip"),
            Service("tcp", 25, "smtp", _smtp_greeting("pbx.exposed-server.invalid")),
            Service("tcp", 143, "imap", _IMAP_GREETING),
            Service("tcp", 110, "pop3", _pop3_greeting("pbx.exposed-server.invalid")),
            Service("tcp", 80, "http", _HOSTED),
            Service("tcp", 8080, "http", _ADMIN_REFUSED),
        ),
    ),
    Device(
        "remote-handset",
        "198.51.100.20",
        ("198.51.100.20", "2001:db8::20"),
        (Service("tcp", 80, "http", _HANDSET), Service("udp", 5060, "sip")),
    ),
    Device(
        "px-expander",
        "198.51.100.30",
        ("198.51.100.30", "2001:db8::30"),
        (Service("tcp", 80, "http", _PORT_EXPANDER), Service("udp", 5060, "sip")),
    ),
    Device("silent-site", "198.51.100.40", ()),
    Device(
        "moved-voicemail",
        "198.51.100.50",
        ("198.51.100.50", "2001:db8::50"),
        (
            Service("tcp", 2525, "smtp", _smtp_greeting("pbx.moved-voicemail.invalid")),
            Service("tcp", 1143, "imap", _IMAP_GREETING, starttls=True),
            Service("tls", 5061, "sip"),
        ),
    ),
)


def sites_file() -> Path:
    """The sites file of the practice site."""
    return Path(str(files("exposure_scan.lab") / "sites.toml"))


@contextmanager
def running() -> Iterator[None]:
    """The devices, served by a process of their own while the context lasts. For use inside the network.

    Raises:
        OSError: they did not come up; outside the private network their addresses do not exist.
    """
    with served("exposure_scan.lab.services", (), "The practice site's devices"):
        yield


@contextmanager
def served(module: str, words: Sequence[str], who: str) -> Iterator[None]:
    """A module as a process of its own while the context lasts: it says "ready", and ends with its standard input.

    Raises:
        OSError: it did not come up; `who` says what did not.
    """
    command = [sys.executable, "-m", module, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"ready\n":
                raise OSError(f"{who} did not start; they need the private network.")
            yield
        finally:
            process.stdin.close()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
