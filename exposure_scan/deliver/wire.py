"""The wire: `smtplib` with answers that are bounded, and its errors in words."""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import time
from collections.abc import Callable

_MOST_ANSWER = 64 * 1024  # bytes of one answer, all its lines
_ENDLESS = "an answer without end"


class UnsafeError(OSError):
    """Going on would not be safe; the text is a sentence's end."""


class Smtp(smtplib.SMTP):
    """`smtplib.SMTP` with answers that are bounded in size and by one deadline each."""

    patience: float = 0.0  # seconds for an answer; 0: as for everything else
    halted: Callable[[], bool] = staticmethod(lambda: False)  # asked before each word: whether it may not go any more

    def getreply(self) -> tuple[int, bytes]:
        """The code, -1 where there is none, and the words of the next answer."""
        if self.file is None and self.sock is not None:
            self.file = _Answers(self.sock)
        if isinstance(self.file, _Answers):
            self.file.begin(self.patience or self.timeout)
        return super().getreply()

    def send(self, s: object) -> None:
        """Send bytes; the wait for an answer may have left another timeout."""
        if self.halted():
            raise smtplib.SMTPServerDisconnected("stopped")
        if self.sock is not None:
            self.sock.settimeout(self.timeout)
        super().send(s)  # type: ignore[arg-type]

    def silent(self) -> bool:
        """Whether the server holds the connection and has said nothing unasked."""
        return isinstance(self.file, _Answers) and self.file.silent()


class SmtpTls(Smtp, smtplib.SMTP_SSL):
    """The same in TLS from the start."""


class _Answers:
    """What the server says, line by line; what `smtplib` takes for the socket's file."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._held = b""
        self._left = 0
        self._until = 0.0

    def begin(self, seconds: float) -> None:
        """An answer begins, and must be whole within so many seconds."""
        self._left = _MOST_ANSWER
        self._until = time.monotonic() + seconds

    def readline(self, limit: int) -> bytes:
        """The next line, or as much as has come of it before the end, at most `limit` bytes."""
        while b"\n" not in self._held and len(self._held) < limit:
            seconds = self._until - time.monotonic()
            if seconds <= 0:
                raise TimeoutError("no whole answer in time")
            self._sock.settimeout(seconds)
            data = self._sock.recv(4096)
            if not data:
                break
            self._held += data
        end = min(self._held.find(b"\n") + 1 or len(self._held), limit)
        line, self._held = self._held[:end], self._held[end:]
        self._left -= len(line)
        if self._left < 0:
            raise OSError(_ENDLESS)
        return line

    def silent(self) -> bool:
        """Whether nothing was said that nobody has read, the end included."""
        self._sock.settimeout(0)
        try:
            self._held += self._sock.recv(4096)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return not self._held
        except OSError:
            return False
        return False

    def close(self) -> None:
        """The socket is closed by its owner."""


def dotted(message: bytes) -> bytes:
    """The message as it goes after DATA, but for the dot that ends it: dots at the beginning of a line doubled.

    Bare CR and LF become CRLF: servers that take them for a line's end would see another message in it.
    """
    lines = re.split(rb"\r\n|\r|\n", message)
    body = b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines)
    return body if body.endswith(b"\r\n") else body + b"\r\n"


def told(code: int, said: bytes) -> str:
    """An answer of the server, untrusted text, in one line."""
    text = " ".join(said.decode("utf-8", "replace").split())
    return f"{code if code > 0 else 'an answer without a code:'} {text}"


def words(error: Exception) -> str:
    """An error in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message.rstrip(".")
        return f"its certificate was not accepted ({why}), so nothing was sent; SSL_CERT_FILE may name a CA of your own"
    if isinstance(error, ssl.SSLError):
        return f"no TLS came about ({error.reason or 'the connection ended'}), so nothing was sent"
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error
        return told(error.smtp_code, said if isinstance(said, bytes) else str(said).encode())
    if isinstance(error, TimeoutError) or (isinstance(error, smtplib.SMTPException) and "time" in str(error)):
        return "no answer in time"
    if isinstance(error, smtplib.SMTPServerDisconnected) and str(error).endswith(_ENDLESS):
        return _ENDLESS
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "the connection ended before an answer"
    if isinstance(error, UnsafeError | smtplib.SMTPException):
        return str(error)
    return getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
