"""HTTP: one ``GET /``, and what the head and the title of the answer say (RFC 9110 and 9112).

Old devices answer with HTTP/1.0, with bare line feeds, or with a head and nothing else; all are read.
A redirect is written down and never followed.
"""

from __future__ import annotations

import re
from collections.abc import Generator

from exposure_scan.conversation import Caller, Observation, Reply, Request, Send

from .line import Line, unknown
from .words import host, printable, text

MARK = b"HTTP/"
_MOST_HEAD = 8192
_MOST_BODY = 16384
_STATUS_LINE = re.compile(rb"HTTP/[01]\.[0-9] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_BLANKS = re.compile(r"[ \t\r\n\f]+")  # not \s: a no-break space is part of a title
_MAIL = re.compile(r"[^@\s<>]+@[^@\s<>]+\.[^@\s<>]+")
_KEPT = ("server", "www-authenticate", "location", "accept-ranges")


def http(line: Line, seconds: float, caller: Caller) -> Generator[Request, Reply, tuple[Observation, bytes]]:
    """Ask for the first page. Returns what was seen and the first bytes heard."""
    yield Send(_request(line, caller))
    data = yield from line.hear(_whole, seconds, _MOST_HEAD + _MOST_BODY)
    return _read(data), data


def _request(line: Line, caller: Caller) -> bytes:
    address, port = line.connected.peer
    usual = port == (443 if line.tls else 80)
    fields = [
        "GET / HTTP/1.1",
        f"Host: {host(address)}" + ("" if usual else f":{port}"),
        f"User-Agent: {printable(caller.agent)}",
        "Accept: */*",
        "Connection: close",
    ]
    if _MAIL.fullmatch(caller.contact):
        fields.append(f"From: {printable(caller.contact)}")
    return ("\r\n".join(fields) + "\r\n\r\n").encode("ascii")


def _whole(data: bytes) -> bool:
    """The answer is complete, or it is no HTTP and need not be waited for."""
    if not data.startswith(MARK):
        return not MARK.startswith(data)
    end = _HEAD_END.search(data, 0, _MOST_HEAD)
    if end is None:
        return len(data) >= _MOST_HEAD
    status = _STATUS_LINE.match(data)
    if status is None or status[1] in (b"204", b"304"):
        return True
    fields = _fields(data[: end.start()])
    body = len(data) - end.end()
    length = fields.get("content-length", "")
    if length.isascii() and length.isdigit() and len(length) < 20:
        return body >= min(int(length), _MOST_BODY)
    if "chunked" in fields.get("transfer-encoding", "").lower() and data.endswith(b"\r\n0\r\n\r\n"):
        return True
    return body >= _MOST_BODY


def _fields(head: bytes) -> dict[str, str]:
    """The header fields by lower-case name; several of one name are joined with commas (RFC 9110, 5.3)."""
    fields: dict[str, str] = {}
    for raw in _FOLD.sub(b" ", head).split(b"\n")[1:]:
        name, colon, value = raw.partition(b":")
        if colon:
            key, words = name.strip().lower().decode("latin-1"), text(value.strip())
            fields[key] = f"{fields[key]}, {words}" if key in fields else words
    return fields


def _read(data: bytes) -> Observation:
    status = _STATUS_LINE.match(data)
    if status is None:
        return unknown(data)
    end = _HEAD_END.search(data)
    head, body = (data[: end.start()], data[end.end() :]) if end else (data, b"")
    fields = _fields(head)
    said = {"http.status": status[1].decode("ascii")}
    said |= {f"http.{name}": fields[name][:1000] for name in _KEPT if fields.get(name)}
    title = _title(body)
    if title:
        said["http.title"] = title
    banner = text(status[0].strip())
    if "http.server" in said:
        banner += f", Server: {said['http.server']}"
    notes = () if end else ("The head of the HTTP answer did not end.",)
    return Observation("http", banner[:1000], said, answered=True, valid=end is not None, notes=notes)


def _title(body: bytes) -> str | None:
    """The text of the first title, as received but for blanks. Found by searching forward only."""
    lower = body.lower()
    start = lower.find(b"<title")
    while start >= 0 and lower[start + 6 : start + 7] not in (b">", b" ", b"\t", b"\r", b"\n"):
        start = lower.find(b"<title", start + 6)
    begin = lower.find(b">", start) + 1 if start >= 0 else 0
    end = lower.find(b"</title", begin) if begin else -1
    return _BLANKS.sub(" ", text(body[begin:end])).strip() if end >= 0 else None
