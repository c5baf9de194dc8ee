"""Services where the server speaks first: mail, files, shells and screens, told apart by their words.

Sources: SMTP RFC 5321 and 3207, IMAP RFC 3501, POP3 RFC 1939, 2449 and 2595, FTP RFC 959, SSH RFC 4253
(section 4.2), telnet RFC 854, RFB RFC 6143 (section 7.1.1).
"""

from __future__ import annotations

import re
from collections.abc import Generator

from exposure_scan.conversation import Observation, Reply, Request

from .line import Line, line_ended, reply_ended, unknown
from .words import OUR_HOST, first_line, lines, text

Talk = Generator[Request, Reply, Observation]

_REPLY = re.compile(rb"[245][0-9]{2}[ \-\r\n]")
_IMAP = re.compile(rb"\* (?:OK|PREAUTH|BYE)\b")
_TELNET = re.compile(rb"\xff[\xfb-\xfe]")
_TELNET_COMMAND = re.compile(rb"\xff(?:[\xfb-\xfe].|\xfa[^\xff]*\xff\xf0|[\xf0-\xf9])", re.DOTALL)

# Words that name a protocol, apart from host names: in "220 ftp.example.com ESMTP" only ESMTP counts.
_SAYS_SMTP = re.compile(r"(?<![\w.-])E?SMTP(?![\w-]|\.\w)", re.IGNORECASE)
_SAYS_FTP = re.compile(r"(?<![.-])FTP(?![-]|\w*\.\w)", re.IGNORECASE)
_CODE = re.compile(r"^\d{3}-", re.MULTILINE)
_NO_SMTP_HERE = ("521", "554")  # greetings that only SMTP knows: RFC 7504; RFC 5321, section 3.1
_WANTS_LOGIN = re.compile(r"\blog ?in\b|\bUSER\b|\bPASS\b", re.IGNORECASE)
_ENHANCED = re.compile(r"^5\d\d 5\.\d{1,3}\.\d{1,3}\b")  # RFC 3463, spoken by mail servers only


def is_greeting(data: bytes) -> bool:
    """Whether these bytes begin as a greeting of a protocol that is known here."""
    return data.startswith((b"+OK", b"SSH-", b"RFB ")) or any(known.match(data) for known in (_REPLY, _IMAP, _TELNET))


def _whole(data: bytes) -> bool:
    if _TELNET.match(data):
        return len(data) >= 3
    return reply_ended(data) if _REPLY.match(data) else line_ended(data)


def greeting(line: Line, seconds: float) -> Generator[Request, Reply, tuple[Observation, bytes]]:
    """Listen, then talk as the greeting wants. Returns what was seen and the first bytes heard."""
    first = yield from line.hear(_whole, seconds)
    return (yield from _answer(line, first)), first


def _answer(line: Line, first: bytes) -> Talk:
    if _REPLY.match(first):
        return (yield from _mail_or_files(line, first))
    if _IMAP.match(first):
        return (yield from _imap(line, first))
    if first.startswith(b"+OK") or (first.startswith(b"-ERR") and b"POP" in first):
        return (yield from _pop3(line, first))
    if first.startswith(b"SSH-"):
        said = {"ssh.greeting": lines(first)[0]}
        return _seen("ssh", first, said, valid=True)
    if re.match(rb"RFB [0-9]{3}\.[0-9]{3}\n", first):
        return _seen("rfb", first, {}, valid=True)
    if _TELNET.match(first):
        return _seen("telnet", _TELNET_COMMAND.sub(b"", first), {}, valid=True)
    return unknown(first)


def _seen(
    service: str | None, first: bytes, said: dict[str, str], *, valid: bool, notes: tuple[str, ...] = ()
) -> Observation:
    return Observation(service, first_line(first), said, answered=True, valid=valid, notes=notes)


# --- SMTP and FTP: both greet with 220 -----------------------------------------------------------


def _mail_or_files(line: Line, first: bytes) -> Talk:
    words, code = _CODE.sub("", text(first)), first[:3].decode("ascii")
    smtp = _SAYS_SMTP.search(words) is not None or code in _NO_SMTP_HERE
    ftp = _SAYS_FTP.search(words) is not None and code not in _NO_SMTP_HERE
    if code[0] == "2" and code != "220":
        return unknown(first)  # another protocol with codes, news for one
    if code != "220":  # busy, or not for us
        yield from line.leave("QUIT")
        service = "smtp" if smtp and not ftp else "ftp" if ftp and not smtp else None
        return _seen(service, first, _greeting_field(service, first), valid=False)
    if ftp and not smtp:
        yield from line.leave("QUIT")
        return _seen("ftp", first, _greeting_field("ftp", first), valid=True)
    reply = yield from line.ask(f"EHLO {OUR_HOST}", reply_ended)
    welcome = reply.startswith(b"250")
    service = "smtp" if welcome or (smtp and not ftp) else _service_of_refusal(reply, ftp)
    said = _greeting_field(service, first)
    notes: tuple[str, ...] = ()
    if service is None:
        notes = ("The greeting is one of a mail or a file server; its answer to EHLO did not tell which.",)
    if service == "smtp" and reply:
        said["smtp.ehlo"] = "\n".join(lines(reply)).strip()
    if welcome and line.tls is None and re.search(rb"^250[ -]STARTTLS\b", reply, re.MULTILINE | re.IGNORECASE):
        agreed = yield from line.ask("STARTTLS", reply_ended)
        if agreed.startswith(b"220"):
            notes += yield from _secure(line)
    yield from line.leave("QUIT")
    return _seen(service, first, said, valid=welcome or service == "ftp", notes=notes)


def _greeting_field(service: str | None, first: bytes) -> dict[str, str]:
    return {f"{service}.greeting": lines(first)[0]} if service else {}


def _service_of_refusal(reply: bytes, ftp: bool) -> str | None:
    """Who refuses EHLO: a file server wants a login first, a mail server has finer codes."""
    words = text(reply)
    if _ENHANCED.match(words):
        return "smtp"
    if words.startswith("5") and (ftp or words.startswith("530") or _WANTS_LOGIN.search(words)):
        return "ftp"
    return None


def _secure(line: Line) -> Generator[Request, Reply, tuple[str, ...]]:
    """TLS after the peer agreed to it; notes on what went wrong."""
    why = yield from line.secure()
    return () if why is None else (f"The server agreed to TLS, and the handshake then failed: {why[:200]}",)


# --- IMAP ----------------------------------------------------------------------------------------


def _tagged(tag: str) -> re.Pattern[bytes]:
    return re.compile(rf"^{tag} [^\n]*\n".encode(), re.MULTILINE)


def _imap(line: Line, first: bytes) -> Talk:
    said = {"imap.greeting": lines(first)[0]}
    if first.startswith(b"* BYE"):
        return _seen("imap", first, said, valid=False)
    done = _tagged("x1")
    reply = yield from line.ask("x1 CAPABILITY", lambda data: done.search(data) is not None)
    listed = re.search(rb"^\* CAPABILITY [^\r\n]*", reply, re.MULTILINE | re.IGNORECASE)
    offered: list[bytes] = []
    if listed is not None:
        said["imap.capability"] = text(listed[0])
        offered = listed[0].upper().split()
    notes: tuple[str, ...] = ()
    if line.tls is None and b"STARTTLS" in offered:
        agreed_line = _tagged("x2")
        agreed = yield from line.ask("x2 STARTTLS", lambda data: agreed_line.search(data) is not None)
        if re.search(rb"^x2 OK\b", agreed, re.MULTILINE):
            notes = yield from _secure(line)
    yield from line.leave("x3 LOGOUT")
    return _seen("imap", first, said, valid=done.search(reply) is not None, notes=notes)


# --- POP3 ----------------------------------------------------------------------------------------

_LIST_ENDED = re.compile(rb"^\.\r?\n", re.MULTILINE)


def _capabilities_ended(data: bytes) -> bool:
    return _LIST_ENDED.search(data) is not None if data.startswith(b"+OK") else line_ended(data)


def _pop3(line: Line, first: bytes) -> Talk:
    said = {"pop3.greeting": lines(first)[0]}
    if not first.startswith(b"+OK"):
        return _seen("pop3", first, said, valid=False)
    reply = yield from line.ask("CAPA", _capabilities_ended)
    notes: tuple[str, ...] = ()
    if reply.startswith(b"+OK"):
        said["pop3.capa"] = "\n".join(lines(reply)).strip().removesuffix(".").strip()
        if line.tls is None and re.search(rb"^STLS\s*$", reply, re.MULTILINE | re.IGNORECASE):
            agreed = yield from line.ask("STLS", line_ended)
            if agreed.startswith(b"+OK"):
                notes = yield from _secure(line)
    yield from line.leave("QUIT")
    return _seen("pop3", first, said, valid=reply.startswith((b"+OK", b"-ERR")), notes=notes)
