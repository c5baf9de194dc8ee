"""What the tests of the mail share: its two parts as a mail client shows them, and a past in which much changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
import samples
import samples_doubt
import samples_evidence

from exposure_scan.model import Change, Doors, Past, Point, Scan, Severity, Status, Turn, Verdict
from exposure_scan.report.mail import render_mail_html, render_mail_text
from exposure_scan.report.material import Material

Sample = Callable[[], Scan]
EVERY = (*samples.ALL, *samples_doubt.ALL, *samples_evidence.ALL)
VOID = {"meta", "br", "wbr"}
every_sample = pytest.mark.parametrize("sample", EVERY, ids=lambda sample: sample.__name__)


def changed(title: str = "Sample practice", host: str = "198.51.100.10") -> Past:
    """A past with a change of each kind, ports that opened and shut, and addresses that came and went."""
    ends = {
        Turn.NEW: (Status.MET, Status.NOT_MET),
        Turn.BACK: (Status.MET, Status.NOT_MET),
        Turn.UNSEEN: (Status.NOT_MET, Status.CANNOT_TELL),
        Turn.FIXED: (Status.NOT_MET, Status.MET),
        Turn.STILL: (Status.NOT_MET, Status.NOT_MET),
        Turn.OTHER: (Status.UNDECLARED, Status.DECLARED),
    }
    return Past(
        last=samples.AT - timedelta(days=1),
        was=Verdict.GO,
        points=tuple(
            Point(
                at=samples.AT - timedelta(days=days), verdict=Verdict.GO, not_met=1, cannot_tell=0, undeclared=2, open=3
            )
            for days in (1, 0)
        ),
        changes=tuple(
            Change(
                turn=turn,
                practice=f"sample.{turn}",
                host=host,
                title=f"{title} that is {turn}",
                severity=Severity.HIGH,
                was=was,
                now=now,
                since=samples.AT - timedelta(days=1),
            )
            for turn, (was, now) in ends.items()
        ),
        doors=(Doors(host=host, opened=("tcp/8081", "tcp/8443"), shut=("tcp/23",)),),
        came=("198.51.100.77",),
        went=("198.51.100.78", "198.51.100.79"),
    )


PASTS = {
    "first": Past(),
    "changed": changed(),
    "same": Past(last=samples.AT - timedelta(days=1), was=Verdict.NO_GO),
    "hostile": changed(samples.HOSTILE, samples.HOSTILE),
}
every_past = pytest.mark.parametrize("past", ["first", "changed", "same", "hostile"])


def material(scan: Scan, past: Past | None = None, templates: Path | None = None) -> Material:
    return Material(scan, samples.PRACTICES, past or Past(), templates)


class Reader(HTMLParser):
    """What a mail client makes of the HTML part; what it shows, line by line, and the one piece that is hidden."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.shown: list[str] = []
        self.hidden: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = "".join(self.shown)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))
        elif tag == "br":
            self.shown.append("\n")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if any(tag in ("head", "style") for tag, _ in self.open):
            return
        styles = [attrs.get("style") or "" for _, attrs in self.open]
        hidden = any("display:none" in style for style in styles)
        (self.hidden if hidden else self.shown).append(data)


@cache
def html_part(sample: Sample, past: str = "first") -> str:
    """The HTML part of a sample with one of `PASTS`."""
    return render_mail_html(material(sample(), PASTS[past]))


@cache
def text_part(sample: Sample, past: str = "first") -> str:
    """The text part of a sample with one of `PASTS`."""
    return render_mail_text(material(sample(), PASTS[past]))


def squeezed(text: str) -> str:
    """The text without white space: lines break elsewhere in the two parts."""
    return "".join(text.split())


def plain_words(text: str) -> str:
    """The text part without what only draws: rules and the stars of lists."""
    lines = [line for line in text.split("\n") if not re.fullmatch(r"[=-]{3,}", line)]
    return "\n".join(re.sub(r"^( {2}| {4})\* ", "", line) for line in lines)


def parts(scan: Scan, past: Past | None = None) -> tuple[str, str]:
    """The words that the HTML part shows, and those of the text part; white space is one space."""
    html = Reader(render_mail_html(material(scan, past))).text
    text = plain_words(render_mail_text(material(scan, past)))
    return " ".join(html.split()), " ".join(text.split())
