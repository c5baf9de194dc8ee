"""One connection to the mail server, over which many messages go, and the fate of each."""

from __future__ import annotations

import base64
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from exposure_scan.model import Problem

from .message import address
from .wire import Smtp, SmtpTls, UnsafeError, dotted, told, words

_SECONDS = 60.0  # for each answer of the server but the last; RFC 5321 asks for more, and the outbox tries again
_LAST_SECONDS = 600.0  # for the answer to a whole message: who waits less may send it twice (RFC 5321, 4.5.3.2.6)
_QUIT_SECONDS = 5.0
_SAID = 300
_BROKEN = (smtplib.SMTPException, OSError)


@dataclass(frozen=True, slots=True)
class Server:
    """The mail server and who writes. The password is never shown, not even in a traceback's repr."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    sender: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout: float = _SECONDS  # seconds for each answer
    last_timeout: float = _LAST_SECONDS  # seconds for the answer to a whole message


class Fate(StrEnum):
    """What became of a message."""

    SENT = "sent"
    REFUSED = "refused"  # for good, by a 5xx about this recipient or message
    LATER = "later"  # certainly not delivered: try again
    UNKNOWN = "unknown"  # handed over whole, and no answer came that can be read
    TAKEN = "taken"  # it was not to be sent any more, and was not


@dataclass(frozen=True, slots=True)
class Outcome:
    """The fate of a message, and what the server said: untrusted text."""

    fate: Fate
    said: str


class Delivery:
    """An open connection to the mail server. Use `connected`."""

    def __init__(self, smtp: Smtp, server: Server) -> None:
        self._smtp = smtp
        self._server = server
        self._used = False

    @property
    def open(self) -> bool:
        """Whether another message can be sent over it."""
        return self._smtp.sock is not None

    def send(self, recipient: str, message: bytes, handing_over: Callable[[], bool]) -> Outcome:
        """Send a message to one recipient.

        Args:
            recipient: its address.
            message: whole, with CRLF.
            handing_over: called when all but the mark of its end has gone: up to there the server must drop it
                (RFC 5321, 4.1.1.10). Where it returns False, nothing is delivered.

        Raises:
            ConnectionError: the server takes nothing from this sender; nothing was delivered.
        """
        try:
            to = address(recipient)
        except Problem as problem:
            return Outcome(Fate.REFUSED, str(problem))
        stopped = self._announce(to)
        if stopped is not None:
            return stopped
        try:
            self._smtp.send(dotted(message))
            broken = "" if self._smtp.silent() else "the server gave up before the message was whole"
        except _BROKEN as error:
            broken = self._said(error)
        if broken:
            self._smtp.close()
            return Outcome(Fate.LATER, broken)
        try:
            ours = handing_over()
        except BaseException:
            self._smtp.close()
            raise
        if not ours:
            self._smtp.close()  # inside DATA there is no other way out that delivers nothing
            return Outcome(Fate.TAKEN, "")
        return self._end()

    def _announce(self, to: str) -> Outcome | None:
        """Sender, recipient and DATA; what came of it where the message may not follow."""
        steps = [("RSET", 2)] if self._used else []
        steps += [(f"MAIL FROM:<{self._server.sender}>", 2), (f"RCPT TO:<{to}>", 2), ("DATA", 3)]
        self._used = True
        for word, good in steps:
            try:
                code, said = self._smtp.docmd(word)
            except _BROKEN as error:
                self._smtp.close()
                return Outcome(Fate.LATER, self._said(error))
            if code // 100 == good:
                continue
            if code == 421 or code // 100 not in (4, 5):  # it ends the connection, or answers another question
                self._smtp.close()
            answer = self._clean(told(code, said))
            if code // 100 == 5 and (word[:4] in ("RSET", "MAIL") or code == 530):
                raise ConnectionError(f"{_name(self._server)} takes no mail from {self._server.sender}: {answer}")
            return Outcome(Fate.REFUSED if code // 100 == 5 else Fate.LATER, answer)
        return None

    def _end(self) -> Outcome:
        """Say that the message is whole, and hear what became of it. Nothing halts this: it has been written down."""
        halted, self._smtp.halted = self._smtp.halted, lambda: False
        self._smtp.patience = self._server.last_timeout
        try:
            self._smtp.send(b".\r\n")
            code, said = self._smtp.getreply()
        except _BROKEN as error:
            self._smtp.close()
            return Outcome(Fate.UNKNOWN, self._said(error))
        finally:
            self._smtp.patience, self._smtp.halted = self._server.timeout, halted
        fates = {2: Fate.SENT, 4: Fate.LATER, 5: Fate.REFUSED}
        fate = fates.get(code // 100, Fate.UNKNOWN)
        if code == 421 or fate is Fate.UNKNOWN:
            self._smtp.close()
        return Outcome(fate, self._clean(told(code, said)))

    def _said(self, error: Exception) -> str:
        return self._clean(words(error))

    def _clean(self, text: str) -> str:
        return _without_secret(text, self._server)


@contextmanager
def connected(server: Server, halted: Callable[[], bool] = lambda: False) -> Iterator[Delivery]:
    """A connection that is encrypted, verified and logged in as the sites file wants it.

    As soon as `halted` says so, not a word more goes out over it, but for the end of a message that was handed over.

    Certificates are judged by the system's authorities; SSL_CERT_FILE names others (OpenSSL).

    Raises:
        ConnectionError: no such connection came about; nothing was sent. The sentence holds no secret.
    """
    smtp, problem = None, ""
    try:
        smtp = _open(server, halted)
    except (*_BROKEN, UnicodeError) as error:
        problem = f"{_name(server)}: {_without_secret(words(error), server)}"
    if smtp is None:
        raise ConnectionError(problem)  # out here, so that no exception with what was sent hangs on it
    try:
        yield Delivery(smtp, server)
    finally:
        smtp.patience = _QUIT_SECONDS
        with suppress(*_BROKEN):
            smtp.quit()
        smtp.close()


def _open(server: Server, halted: Callable[[], bool]) -> Smtp:
    if server.username is not None and server.security == "none":
        raise UnsafeError(
            'a password never goes without TLS; set mail.security to "starttls" or "tls", nothing was sent'
        )
    context = ssl.create_default_context()
    name = socket.gethostname()
    own = name if "." in name and name.isascii() else "[127.0.0.1]"  # as smtplib does, without asking a name server
    smtp: Smtp
    if server.security == "tls":
        smtp = SmtpTls(server.host, server.port, own, timeout=server.timeout, context=context)
    else:
        smtp = Smtp(server.host, server.port, own, timeout=server.timeout)
    smtp.halted = halted
    try:
        _greet(smtp)
        if server.security == "starttls":
            if not smtp.has_extn("starttls"):
                raise UnsafeError(
                    'it offers no STARTTLS, so nothing was sent; use mail.security = "tls" if it speaks that'
                )
            smtp.starttls(context=context)
            _greet(smtp)
        if server.username is not None:
            _login(smtp, server.username, server.password or "")
    except BaseException:
        smtp.close()
        raise
    return smtp


def _greet(smtp: Smtp) -> None:
    code, said = smtp.ehlo()
    if code // 100 != 2:
        raise smtplib.SMTPResponseException(code, said)


def _login(smtp: Smtp, username: str, password: str) -> None:
    """Log in by PLAIN (RFC 4616) or LOGIN, in UTF-8, which `smtplib` refuses, an exception in hand that shows it."""
    offered = smtp.esmtp_features.get("auth", "").upper().split()
    user, secret = username.encode("utf-8", "replace"), password.encode("utf-8", "replace")
    if "PLAIN" in offered:
        code, _ = smtp.docmd("AUTH", f"PLAIN {_base64(_plain(user, secret))}")
    elif "LOGIN" in offered:
        code, _ = smtp.docmd("AUTH", f"LOGIN {_base64(user)}")
        if code == 334:
            code, _ = smtp.docmd(_base64(secret))
    else:
        raise UnsafeError("it offers no login by PLAIN or LOGIN, so nothing was sent")
    if code != 235:
        raise UnsafeError(
            f"it refused the login of {username!a} ({code})"
        )  # without its words: they may repeat a secret


def _plain(user: bytes, secret: bytes) -> bytes:
    return b"\0" + user + b"\0" + secret


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _name(server: Server) -> str:
    return f"{server.host}:{server.port}"


def _without_secret(text: str, server: Server) -> str:
    """What a server said, cut, without the password where it repeats it."""
    if server.password:
        secret = server.password.encode("utf-8", "replace")
        user = (server.username or "").encode("utf-8", "replace")
        for word in (_base64(_plain(user, secret)), _base64(secret), server.password):
            text = text.replace(word, "***")
    return text[:_SAID]
