"""The scan in a terminal: the verdict, what answered, what needs something, and what to do next.

Text of the network arrives as `rich.text.Text` made by `terminal_text`, never as markup. Symbol and
word say everything, so colours may be missing; it fits 80 columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exposure_scan.model import Echo, Finding, Host, Scan, Status
from exposure_scan.model.text import TERMINAL_LIMIT, terminal_text

from . import words
from .device import device_view, foreign
from .doubt import Fact, scan_facts, unsure, way_facts
from .ports import door_of, door_of_swept, reason_text, swept_tally, swept_text, tls_lines, tls_refusal
from .proof import by_id
from .sources import second_facts, sources
from .verdict import box, steps
from .view import counts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

_STYLES: Mapping[str, str] = {
    "good": "green",
    "bad": "red",
    "unsure": "yellow",
    "told": "cyan",
    "quiet": "dim",
}
_MOST_ROWS = 40
_SENTENCE = 300  # characters of a reason; it may quote the network
_DETAIL = 160  # of a line about TLS, of a note
_PRODUCT = 60
_CAUTION = 700  # what it quotes is cut by itself


def summary(scan: Scan, *, quiet: bool = False, verbose: bool = False) -> RenderableType:
    """What to print of a scan. `quiet` is the verdict line alone; `verbose` shows every port and practice."""
    from rich.console import Group

    told = box(scan)
    head = _text(told.mark.symbol + " " + told.mark.word, f"bold {_STYLES[told.mark.tone]}")
    addresses = ", ".join(host.address for host in scan.hosts[:4]) or "no address"
    more = f" and {len(scan.hosts) - 4} more" if len(scan.hosts) > 4 else ""
    where = "" if scan.site.name == addresses else f" ({terminal_text(addresses)}{more})"
    head.append_text(_text(f"  {terminal_text(scan.site.name)}{where}"))
    if quiet:
        return head
    parts: list[RenderableType] = [head, _text(told.why)]
    parts += [_bullet("!", sentence, "yellow", _CAUTION) for sentence in (*sources(scan).top, *told.cautions)]
    parts += [_bullet("-", sentence) for sentence in (*told.reasons, *told.more_reasons)]
    for host in scan.hosts:
        parts += ["", *_host(host, scan, verbose=verbose), *_facts(way_facts(host), verbose=verbose)]
    parts += _facts((*scan_facts(scan), *second_facts(scan)), verbose=verbose)
    parts += ["", *_practices(scan, verbose=verbose), "", *_next(scan)]
    return Group(*parts)


def _text(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(text, style=style)


def _wire(text: str, style: str = "", limit: int = TERMINAL_LIMIT) -> Text:
    return _text(terminal_text(text, limit), style)


def _bullet(symbol: str, sentence: str, style: str = "", limit: int = _SENTENCE) -> Table:
    from rich.table import Table

    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1)
    grid.add_column()
    grid.add_row(_text(symbol, style), _text(terminal_text(sentence, limit), style))
    return grid


def _table(*columns: str) -> Table:
    from rich import box as boxes
    from rich.table import Table

    table = Table(box=boxes.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _host(host: Host, scan: Scan, *, verbose: bool) -> list[RenderableType]:
    device = device_view(host.device)
    kept = by_id(scan)
    line = _wire(host.address, "bold")
    detail = f", {device.detail}" if device.detail else ""
    line.append_text(_text(f": {terminal_text(device.name)}{terminal_text(detail)}; {terminal_text(device.how)}"))
    doors = [(port, door_of(port, host, scan)) for port in host.ports]
    answered = (words.OPEN, words.EXPECTED, words.UNCLEAR, words.UNMEASURED)
    shown = doors if verbose else [pair for pair in doors if pair[1] in answered]
    if not shown:
        silence = {
            Echo.REPLIED: "No open port was seen. It answers ping.",
            Echo.SILENT: "No open port was seen. Ping got no answer.",
            Echo.UNMEASURED: "No open port was seen. Ping was not measured.",
        }[host.echo]
        return [line, _text(silence), *_swept(host, verbose=verbose)]
    table = _table("Port", "State", "Service", "What it says", "Device")
    for port, mark in shown[:_MOST_ROWS] if not verbose else shown:
        state = _text(f"{mark.symbol} {mark.word}", _STYLES[mark.tone])
        if verbose or mark is not words.OPEN:
            state.append_text(_text("\n" + terminal_text(reason_text(port, host.address), 60), "dim"))
        notes = (*port.notes, *tls_refusal(port, kept))
        said = _wire(port.banner or port.product or next(iter(notes), ""))
        if verbose:
            for one in (*(tls_lines(port.tls) if port.tls else ()), *notes):
                said.append_text(_text("\n" + terminal_text(one, _DETAIL), "dim"))
        what = foreign(port, "Allworx") or (words.DEVICES[port.device.class_] if port.device else "")
        table.add_row(_text(port.key), state, _wire((port.service or "").upper()), said, _wire(what, limit=_PRODUCT))
    rest = [] if verbose or len(shown) <= _MOST_ROWS else [_text(f"... and {len(shown) - _MOST_ROWS} more ports")]
    ping = [_text("It also answers ping.")] if host.echo is Echo.REPLIED else []
    return [line, table, *rest, *ping, *_swept(host, verbose=verbose)]


def _swept(host: Host, *, verbose: bool) -> list[RenderableType]:
    """What came of a wide sweep: one sentence, or each group with its ports."""
    if not host.swept:
        return []
    parts: list[RenderableType] = [_text(swept_tally(host))]
    for group in host.swept if verbose else ():
        mark = door_of_swept(group)
        ports = f"{swept_text(group.ports)}: {reason_text(group, host.address)}"
        parts.append(_bullet(mark.symbol, f"{mark.word} ({group.number:,}), {ports}", _STYLES[mark.tone], _CAUTION))
    return parts


def _facts(facts: tuple[Fact, ...], *, verbose: bool) -> list[RenderableType]:
    """The way and the scanner: what changes how the answers are to be read, or everything."""
    return [
        _text(terminal_text(f"{fact.name}: {' '.join(fact.lines)}", _CAUTION))
        for fact in facts
        if verbose or fact.brief
    ]


def _practices(scan: Scan, *, verbose: bool) -> list[RenderableType]:
    wanted = (Status.NOT_MET, Status.CANNOT_TELL)
    order = list(words.STATUSES)
    shown = [f for f in scan.findings if verbose or f.status in wanted]
    parts: list[RenderableType] = []
    if shown:
        several = len(scan.hosts) > 1
        table = _table("Practice", "Status", "Why")
        for finding in sorted(shown, key=lambda f: (order.index(f.status), list(words.SEVERITIES).index(f.severity))):
            table.add_row(*_finding(finding, several=several, limit=_CAUTION if verbose else _SENTENCE))
        parts += [table, ""]
    numbers = ", ".join(f"{count.number} {count.mark.word.lower()}" for count in counts(scan.findings))
    made = scan.declarations
    parts.append(_text(f"Practices: {numbers}."))
    parts.append(_text(f"Declarations: {made.made} of {made.of} made; {made.of - made.made} undeclared."))
    return parts


def _finding(finding: Finding, *, several: bool, limit: int) -> tuple[Text, Text, Text]:
    mark = words.STATUSES[finding.status]
    name = _wire(finding.practice)
    if several:
        name.append_text(_text("\n" + terminal_text(finding.host), "dim"))
    state = _text(f"{mark.symbol} {mark.word}", _STYLES[mark.tone])
    state.append_text(_text("\n" + words.SEVERITIES[finding.severity], "dim"))
    because = terminal_text(finding.because, limit)
    if doubtful := unsure(finding):
        because += f" {doubtful}"
    if finding.waived is not None:
        because += f" Waived by {terminal_text(finding.waived.by)} until {finding.waived.until}."
    return name, state, _text(because)


def _next(scan: Scan) -> list[RenderableType]:
    listed, more = steps(scan, {})
    parts: list[RenderableType] = [_text("What to do next", "bold"), _text(box(scan).do)]
    for number, step in enumerate(listed, 1):
        where = f" [{', '.join(step.hosts)}]" if step.hosts else ""
        parts.append(_bullet(str(number), f"{step.order}{where}: {step.what}", limit=_CAUTION))
    if more:
        parts.append(_text(f"  and {words.count(more, 'more step', 'more steps')}; see the report."))
    return parts
