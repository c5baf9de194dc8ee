"""TLS over memory: the socket stays ours, so that reads stay bounded and every wait has its deadline.

What is read here is never trusted. Old gear speaks TLS 1.0 with ciphers that no browser takes any
more, and the report must say so; therefore everything that the library still can is allowed.
"""

from __future__ import annotations

import os
import re
import ssl
import warnings
from contextlib import suppress
from functools import cache
from ipaddress import ip_address

from exposure_scan.conversation import Secured

_DNS_NAME = re.compile(r"(?=.{1,253}\.?$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9-]{1,63}\.?")
_OP_LEGACY_SERVER_CONNECT = 0x4  # servers from before RFC 5746; ssl names it from Python 3.12 on
_RANDOM = slice(11, 43)  # of our first record, the ClientHello (RFC 8446, sections 4.1.2 and 5.1)


@cache
def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that TLS 1.0 is old is what we want to learn
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.options |= _OP_LEGACY_SERVER_CONNECT
    context.keylog_filename = f"/proc/self/fd/{_keys().file}"
    return context


class _Keys:
    """The keys of our own sessions, by which a capture of them can be read. They lie in memory, in no file."""

    def __init__(self) -> None:
        self.file = os.memfd_create("exposure-scan-tls-keys")  # the library writes to a path and to nothing else
        self._lines: dict[str, list[str]] = {}

    def take(self, random: bytes) -> tuple[str, ...]:
        """The lines of the session with this client random, once (NSS key log format)."""
        size = os.fstat(self.file).st_size
        text = os.pread(self.file, size, 0).decode("ascii", "replace")
        os.ftruncate(self.file, 0)  # the library appends
        for line in text.splitlines():
            self._lines.setdefault(line.split(" ")[1], []).append(line)
        return tuple(self._lines.pop(random.hex(), ()))


@cache
def _keys() -> _Keys:
    return _Keys()


def dns_name(name: str | None) -> str | None:
    """The name if it is one that SNI may carry (RFC 6066, section 3: no addresses), else None."""
    if not name or not _DNS_NAME.fullmatch(name):
        return None
    try:
        ip_address(name)
    except ValueError:
        return name.rstrip(".")
    return None


class Tunnel:
    """One TLS session. Bytes that the peer should get pile up in `outgoing`."""

    def __init__(self, server_name: str | None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._session = _context().wrap_bio(self._incoming, self._outgoing, server_hostname=dns_name(server_name))
        self._random = b""

    def outgoing(self) -> bytes:
        """What must go to the peer now; it is taken out."""
        data = self._outgoing.read()
        self._random = self._random or data[_RANDOM]
        return data

    def keys(self) -> tuple[str, ...]:
        """The session's keys as lines of an NSS key log, once; none where it did not come to any."""
        return _keys().take(self._random)

    def fed(self, data: bytes) -> None:
        """Bytes from the peer; none means that its stream has ended."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def handshake(self) -> Secured | None:
        """Go on with the handshake; None while the peer must speak first.

        Raises:
            ssl.SSLError: it failed.
        """
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            return None
        cipher = self._session.cipher()
        return Secured(
            version=self._session.version() or "unknown",
            cipher=(cipher[0] if cipher else "unknown").replace(" ", "_"),
            certificate=self._session.getpeercert(binary_form=True) or b"",
        )

    def read(self, most: int) -> bytes | None:
        """Plain text, all there is up to `most`; empty: the peer ended the session; None: it must send first.

        Raises:
            ssl.SSLError: the session is broken, or an alert came.
        """
        got = b""
        while len(got) < most:
            try:
                piece = self._session.read(most - len(got))
            except ssl.SSLWantReadError:
                return got or None
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return got
            except ssl.SSLError:
                if got:
                    return got  # the next read meets the error again
                raise
            if not piece:
                return got
            got += piece
        return got

    def write(self, data: bytes) -> None:
        """Encipher what the peer should get.

        Raises:
            ssl.SSLError: the session is broken.
        """
        self._session.write(data)

    def farewell(self) -> bytes:
        """The close_notify, without waiting for the peer's."""
        with suppress(ssl.SSLError, ValueError, OSError):  # it wants the peer's answer
            self._session.unwrap()
        return self._outgoing.read()


def reason(error: ssl.SSLError) -> str:
    """Why it failed, in the library's words, on one line."""
    return error.reason or " ".join(str(error).split()) or type(error).__name__
