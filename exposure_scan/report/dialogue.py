r"""The evidence in a terminal: the little conversations behind the findings, line by line and with times.

Each line says by its mark whose words it holds, so that colours may be missing: `→` is what the scanner sent,
`←` what came back, `·` what happened beside that. A long line goes on below, and nothing in it can look like a mark.
Bytes are shown by `conversation.escape`: printable ASCII as it is, all else as \xNN.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exposure_scan.conversation import Event, escape, events_of, unescape
from exposure_scan.model import Evidence, Finding, Scan
from exposure_scan.model.ranges import read_ranges
from exposure_scan.model.text import line_text, terminal_text

from . import words
from .ports import swept_text
from .proof import CAPTURES, frames_of
from .sources import MASKED

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table
    from rich.text import Text

_OURS, _THEIRS, _BESIDE = "→", "←", "·"
_STYLES: Mapping[str, str] = {_OURS: "cyan", _THEIRS: "yellow", _BESIDE: "dim"}
_MOST_EVENTS = 200  # of one piece
_MOST_LINES = 40  # of one event
_MOST_LINE = 600  # bytes of one line
_HEX_ROW = 16  # bytes
_MOST_HEX = 16 * _HEX_ROW  # bytes of one event
_SENTENCE = 700
_SILENT = "no-response"
_TEXT = 0.9  # share of printable bytes from which on data is shown as lines
_PRINTABLE = frozenset(range(0x20, 0x7F)) | frozenset(b"\t\r\n")

_ICMP = re.compile(r"type=([0-9]{1,3}) code=([0-9]{1,3}) from=([0-9a-fA-F:.]{2,45})")
# RFC 792, RFC 1812 (5.2.7.1) and RFC 4443, by family and type; the place of a word is its code.
_UNREACHABLE: Mapping[tuple[int, int], tuple[str, ...]] = {
    (4, 3): (
        "network unreachable",
        "host unreachable",
        "protocol unreachable",
        "port unreachable",
        "packet too big",
        "source route failed",
        "network unknown",
        "host unknown",
        "host isolated",
        "network administratively prohibited",
        "host administratively prohibited",
        "network unreachable for this type of service",
        "host unreachable for this type of service",
        "administratively prohibited",
        "administratively prohibited: host precedence",
        "administratively prohibited: precedence cutoff",
    ),
    (6, 1): (
        "network unreachable",
        "administratively prohibited",
        "beyond the scope of the sender's address",
        "host unreachable",
        "port unreachable",
        "administratively prohibited: the sender's address",
        "route rejected",
    ),
    (4, 11): ("packet went too far", "fragments came too late"),
    (6, 3): ("packet went too far", "fragments came too late"),
    (6, 2): ("packet too big",),
}


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of the conversation; `when` is empty where it goes on with the same event."""

    when: str
    mark: str
    text: str


# --- what is shown --------------------------------------------------------------------------------


def dialogue(scan: Scan, findings: Iterable[Finding], pieces: Sequence[Evidence]) -> RenderableType:
    """The findings in a sentence each, then the conversations of `pieces` as they went."""
    from rich.console import Group

    parts: list[RenderableType] = []
    for finding in findings:
        mark = words.STATUSES[finding.status]
        title = f"{mark.symbol} {mark.word}: {terminal_text(finding.practice)} at {terminal_text(finding.host, 45)}"
        parts += [_text(title, "bold"), _text(terminal_text(finding.because, _SENTENCE))]
    if not pieces:
        return Group(*parts, _text("No evidence is cited for it: nothing was sent."))
    parts += [""] * bool(parts)
    parts.append(_text(f"{_OURS} the scanner   {_THEIRS} the other side   {_BESIDE} what happened", "dim"))
    if scan.redacted:
        parts.append(_text(MASKED))
    for piece in pieces:
        parts += ["", _heading(piece, scan), _body(piece, scan)]
    return Group(*parts)


# --- one piece ------------------------------------------------------------------------------------


class _Heading:
    """Parts of a heading, as many on a line as fit; the following lines are set in."""

    def __init__(self, id_: str, parts: Iterable[str]) -> None:
        self._id = id_
        self._parts = list(parts)

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        indent = len(self._id) + 2
        lines = [self._id]
        for part in self._parts:
            if len(lines[-1]) > indent and len(lines[-1]) + 2 + len(part) > options.max_width:
                lines.append(" " * (indent - 2))
            lines[-1] += f"  {part}"
        yield _text("\n".join(lines), "bold")


def _heading(piece: Evidence, scan: Scan) -> _Heading:
    port = "ping" if piece.kind == "icmp" else f"{piece.kind}/{piece.port}"
    if piece.ports:
        port = terminal_text(swept_text(piece.ports), 200)
    where = f" of {terminal_text(piece.address, 45)}" if len(scan.hosts) > 1 else ""
    parts = [port + where, words.instant(piece.at)]
    parts.append(terminal_text(f"{piece.state} ({piece.reason})" if piece.reason else piece.state))
    if frames := frames_of((piece,), scan):
        parts.append(f"{frames} of {CAPTURES[scan.capture].file}")
    parts.append(terminal_text(words.PROBES.get(piece.probe, piece.probe) + words.PURPOSES.get(piece.purpose, "")))
    return _Heading(terminal_text(piece.id, 20), parts)


def _body(piece: Evidence, scan: Scan) -> Table:
    from rich.table import Table

    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1)
    grid.add_column(justify="right", no_wrap=True, min_width=8)
    grid.add_column(width=1)
    grid.add_column(overflow="fold")
    for line in _lines(piece, scan):
        style = _STYLES[line.mark]
        grid.add_row("", _text(line.when, "dim"), _text(line.mark, style), _text(line_text(line.text), style))
    return grid


def _lines(piece: Evidence, scan: Scan) -> Iterator[_Line]:
    if piece.ports:
        number = sum(len(one) for one in _ranges(piece.ports))
        tries = f", {words.count(piece.tries, 'try', 'tries')} each" if piece.tries else ""
        came = words.REASONS.get(piece.reason, piece.reason)
        asked = f"a connection to each of {words.count(number, 'port', 'ports')}{tries}, without a word: {came}"
        yield _Line("", _BESIDE, terminal_text(asked, _SENTENCE))
        return
    try:
        events = events_of(piece)
    except ValueError:
        yield _Line("", _BESIDE, "the record is damaged: its bytes and its steps do not fit together")
        for mark, kept in ((_OURS, piece.sent), (_THEIRS, piece.received)):
            yield from _data(_kept(kept), "", mark) if kept else ()
        return
    if not events:
        yield _Line("", _BESIDE, _nothing(piece, scan))
    before, last = 0.0, b""
    for event in events[:_MOST_EVENTS]:
        if event.what == "sent" and event.data and event.data == last:
            size = words.count(len(last), "byte", "bytes")
            yield _Line(_when(event), _BESIDE, f"sent once more: the same {size}")
        else:
            yield from _event(event, before, piece)
        before, last = event.ms, event.data if event.what == "sent" else last
    if len(events) > _MOST_EVENTS:
        yield _Line("", _BESIDE, f"… {len(events) - _MOST_EVENTS:,} events more; all of them stand in scan.json")


def _ranges(ports: str) -> tuple[range, ...]:
    try:
        return read_ranges(ports)  # written in the same way
    except ValueError:
        return ()


def _kept(text: str) -> bytes:
    try:
        return unescape(text)
    except ValueError:  # never written by `escape`
        return text.encode("utf-8", "replace")


def _nothing(piece: Evidence, scan: Scan) -> str:
    if scan.origin is not None:
        return f"nothing of it was kept: it was read from {terminal_text(scan.origin.name, 80)}"
    reason = terminal_text(words.REASONS.get(piece.reason, piece.reason))
    return f"nothing was sent and nothing came: {reason}" if reason else "nothing was sent and nothing came"


def _event(event: Event, before: float, piece: Evidence) -> Iterator[_Line]:
    when = _when(event)
    if event.what in ("sent", "received"):
        yield from _data(event.data, when, _OURS if event.what == "sent" else _THEIRS)
        return
    yield _Line(when, _BESIDE, _told(event, before, piece))
    if event.data:
        yield from _data(event.data, "", _THEIRS)


def _when(event: Event) -> str:
    return f"+{event.ms / 1000:.3f} s"


def _told(event: Event, before: float, piece: Evidence) -> str:
    detail = terminal_text(event.detail, 160)
    if event.what in ("asking", "connected"):
        near, port = _end(event.detail)
        if piece.kind == "icmp":
            return f"asking from {near}"
        if event.what == "asking" or piece.kind == "udp":
            return f"asking from port {port} of {near}"
        return f"connected, from port {port} of {near}"
    if event.what == "not-connected":
        tries = f" after {words.count(piece.tries, 'try', 'tries')}" if piece.tries and _only(piece) else ""
        return f"no connection: {words.REASONS.get(event.detail, detail)}{tries if event.detail == _SILENT else ''}"
    if event.what == "silent":
        seconds = (event.ms - before) / 1000
        return f"nothing for {f'{seconds:.1f} s' if seconds >= 0.1 else f'{seconds * 1000:.0f} ms'}"
    if event.what == "secured":
        version, _, cipher = event.detail.partition(" ")
        said = f"{terminal_text(version, 20)} ({terminal_text(cipher.split(' ')[0], 60)})"
        return f"secured with {said}: what follows is the plain text inside"
    if event.what == "elsewhere":
        near, port = _end(event.detail)
        return f"an answer came from port {port} of {near}, which was not asked"
    if event.what == "icmp":
        return _icmp(event.detail, piece.address)
    return {
        "closed": "closed by the other side",
        "reset": "reset: the other side tore it down" if piece.kind == "tcp" else "that ended the question",
        "limit": "too much: the scanner stopped reading",
        "not-secured": f"TLS did not come about: {detail}",
    }[event.what]


def _only(piece: Evidence) -> bool:
    """Whether the piece tells of nothing but one attempt to connect, tried as often as it says."""
    return all(step.what in ("asking", "not-connected", "icmp") for step in piece.steps)


def _end(detail: str) -> tuple[str, str]:
    """Address and port of the first end."""
    near, _, port = detail.split(" ")[0].rpartition("|")
    return terminal_text(near, 45), terminal_text(port, 10)


def _icmp(detail: str, address: str) -> str:
    match = _ICMP.fullmatch(detail)
    if match is None:
        return f"an ICMP error came: {terminal_text(detail, 80)}"
    kind, code, by = int(match[1]), int(match[2]), match[3]
    said = _UNREACHABLE.get((6 if ":" in by else 4, kind), ())
    told = said[code] if code < len(said) else "an error"
    who = f"{by} itself" if by == address else f"router {by}"
    return f"{who} says: {told} (ICMP type {kind}, code {code})"


# --- bytes ----------------------------------------------------------------------------------------


def _data(data: bytes, when: str, mark: str) -> Iterator[_Line]:
    if not data:
        yield _Line(when, mark, "")
        yield _Line("", _BESIDE, "an empty packet")
        return
    is_text = sum(byte in _PRINTABLE for byte in data) >= _TEXT * len(data)
    shown, left, notes = _text_lines(data) if is_text else _hex_lines(data)
    for number, line in enumerate(shown):
        yield _Line("" if number else when, mark, line)
    if left:
        notes = (*notes, f"… {words.count(left, 'byte', 'bytes')} more; all of it stands in scan.json")
    for note in notes:
        yield _Line("", _BESIDE, note)


def _hex_lines(data: bytes) -> tuple[list[str], int, tuple[str, ...]]:
    lines = []
    for at in range(0, min(len(data), _MOST_HEX), _HEX_ROW):
        row = data[at : at + _HEX_ROW]
        readable = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        lines.append(f"{at:04x}  {row.hex(' ', -2):<39}  {readable}")
    return lines, max(len(data) - _MOST_HEX, 0), ()


def _text_lines(data: bytes) -> tuple[list[str], int, tuple[str, ...]]:
    """One for each line of the text; CR LF is shown by the end of the line, and what ends otherwise is told."""
    lines, shown, bare = [], 0, []
    for number, line in enumerate(_split(data), 1):
        if number > _MOST_LINES:
            break
        kept = line.removesuffix(b"\n").removesuffix(b"\r") if line.endswith(b"\r\n") else line.removesuffix(b"\n")
        if line.endswith(b"\n") and not line.endswith(b"\r\n"):
            bare.append(number)
        lines.append(escape(kept[:_MOST_LINE]))
        if len(kept) > _MOST_LINE:
            shown += _MOST_LINE
            break
        shown += len(line)
    notes: tuple[str, ...] = ()
    if bare:
        which = "its line ends" if len(lines) == 1 else "all its lines end" if len(bare) == len(lines) else ""
        which = which or (f"{words.count(len(bare), 'line', 'lines')} of it {'ends' if len(bare) == 1 else 'end'}")
        notes = (f"{which} in a bare LF",)
    return lines, len(data) - shown, notes


def _split(data: bytes) -> Iterator[bytes]:
    """The lines with their ends. Only LF ends one; a CR alone is shown as it is escaped."""
    at = 0
    while at < len(data):
        end = data.find(b"\n", at) + 1 or len(data)
        yield data[at:end]
        at = end


def _text(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(text, style=style)
