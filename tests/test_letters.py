"""Which mail goes out with a scan, to whom, and what its headers say, whatever a site is called."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import mails
import pytest
import samples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exposure_scan import deliver, scope
from exposure_scan.history.store import Letter
from exposure_scan.model import Past, Point, Problem, Scan, Severity, Status, Turn, Verdict
from exposure_scan.model.text import html_text
from exposure_scan.sweep import letters

DAY = timedelta(days=1)
POST = letters.Post("reports@partner.example", "Synthetic Partner", "none")
OWNER, OTHER = "owner@customer.example", "other@customer.example"


def order(*to: str, when: scope.order.ReportWhen = "on-change") -> scope.Order:
    made = scope.order_from_words(["198.51.100.10"], authorized_by="synthetic owner", name="Synthetic Dental")
    return replace(made, report_to=to or (OWNER,), report_when=when)


def read(letter: Letter) -> EmailMessage:
    found = message_from_bytes(letter.message, policy=default)
    assert isinstance(found, EmailMessage)
    return found


def scan_of(verdict: Verdict = Verdict.GO, *broken: Severity, days: float = 0, waived: bool = False) -> Scan:
    """A scan some days after the first, with a breach of each of these severities."""
    made = samples.exposed_server() if waived else samples.silent_with_presence()
    if waived:
        found = [one for one in made.findings if one.waived is not None]
    else:
        rows = zip(made.findings, broken, strict=False)
        found = [one.model_copy(update={"status": Status.NOT_MET, "severity": severity}) for one, severity in rows]
    at = samples.AT + days * DAY
    return made.model_copy(update={"verdict": verdict, "findings": tuple(found), "started": at, "finished": at})


def past_of(*verdicts: Verdict, days: float = 0, **more: Any) -> Past:
    """A past of nightly scans with these verdicts, the present one last, and no change but of the verdict."""
    points = tuple(
        Point(at=samples.AT + (days - ago) * DAY, verdict=verdict, not_met=0, cannot_tell=0, undeclared=0, open=0)
        for ago, verdict in zip(reversed(range(len(verdicts))), verdicts, strict=True)
    )
    before = points[-2] if len(points) > 1 else None
    return Past(last=before and before.at, was=before and before.verdict, points=points, **more)


GO, NO_GO, DOUBT = Verdict.GO, Verdict.NO_GO, Verdict.INCONCLUSIVE
SAME = past_of(GO, GO)


# --- when -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["every", "on-change", "weekly"])
def test_who_was_never_written_to_is(when: scope.order.ReportWhen) -> None:
    assert letters.wanted(order(when=when), scan_of(), past_of(GO), None)


def test_every_scan_is_mailed_where_the_site_wants_it() -> None:
    assert letters.wanted(order(when="every"), scan_of(days=1), SAME, samples.AT)


def nights(when: scope.order.ReportWhen, number: int, *broken: Severity) -> list[int]:
    """The nights on which mail goes, of an unchanged site that is scanned nightly, a little early or late."""
    last, found = samples.AT + timedelta(minutes=2), [0]
    for night in range(1, number + 1):
        at = scan_of(GO, *broken, days=night + (night % 3 - 1) / 24)
        if letters.wanted(order(when=when), at, SAME, last):
            found.append(night)
            last = at.started + timedelta(minutes=2)
    return found


def test_weekly_is_weekly() -> None:
    assert nights("weekly", 30) == [0, 7, 14, 21, 28]


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ((), [0]),
        ((Severity.CRITICAL,), [0, 7, 14, 21, 28, 35]),
        ((Severity.HIGH,), [0, 14, 28]),
        ((Severity.MEDIUM,), [0, 30]),
        ((Severity.LOW,), [0]),
        ((Severity.LOW, Severity.HIGH), [0, 14, 28]),
    ],
)
def test_what_stays_broken_is_called_to_mind_the_sooner_the_worse_it_is(
    broken: tuple[Severity, ...], expected: list[int]
) -> None:
    assert nights("on-change", 35, *broken) == expected


def test_the_least_is_called_to_mind_after_a_quarter() -> None:
    assert nights("on-change", 95, Severity.LOW) == [0, 90]


def test_what_is_waived_is_not_called_to_mind() -> None:
    assert not letters.wanted(order(), scan_of(waived=True, days=400), past_of(GO, GO), samples.AT)


CHANGES = {
    "verdict": past_of(DOUBT, GO),
    "opened": past_of(GO, GO, doors=mails.changed().doors),
    "came": past_of(GO, GO, came=("198.51.100.9",)),
    "went": past_of(GO, GO, went=("198.51.100.9",)),
} | {
    str(turn): past_of(GO, GO, changes=tuple(one for one in mails.changed().changes if one.turn is turn))
    for turn in Turn
    if turn is not Turn.STILL
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_mailed_at_once_and_weekly_it_waits(change: str) -> None:
    assert letters.wanted(order(), scan_of(days=1), CHANGES[change], samples.AT)
    assert not letters.wanted(order(when="weekly"), scan_of(days=1), CHANGES[change], samples.AT)


def test_what_stands_as_it_stood_is_no_change() -> None:
    still = past_of(NO_GO, NO_GO, changes=tuple(one for one in mails.changed().changes if one.turn is Turn.STILL))
    assert len(still.changes) == 1
    assert not letters.wanted(order(), scan_of(NO_GO, Severity.CRITICAL, days=1), still, samples.AT)


@pytest.mark.parametrize(
    ("course", "urgent"),
    [
        ((GO, NO_GO), True),
        ((DOUBT, NO_GO), True),
        ((NO_GO, GO, NO_GO), True),
        ((NO_GO, GO, DOUBT, NO_GO), True),
        ((NO_GO,), False),
        ((NO_GO, NO_GO), False),
        ((NO_GO, DOUBT, NO_GO), False),
        ((NO_GO, DOUBT, DOUBT, NO_GO), False),
        ((NO_GO, GO), False),
        ((GO, DOUBT), False),
    ],
)
@pytest.mark.parametrize("when", ["every", "on-change", "weekly"])
def test_a_change_to_no_go_is_urgent_whatever_the_site_wants(
    course: tuple[Verdict, ...], urgent: bool, when: scope.order.ReportWhen
) -> None:
    scan, past = scan_of(course[-1]), past_of(*course)
    made = letters.letters(order(when=when), scan, past, samples.PRACTICES, POST)
    assert [letter.urgent for letter in made] == [urgent]
    mail = read(made[0])
    assert mail["Subject"].startswith("Urgent: ") is urgent
    assert (mail["Importance"], mail["X-Priority"]) == (("high", "1") if urgent else (None, None))
    if urgent:
        assert letters.wanted(order(when=when), scan, past, scan.started)


# --- to whom --------------------------------------------------------------------------------------


def test_the_site_s_recipients_each_get_one_and_nobody_else() -> None:
    scan = samples.exposed_server()
    made = letters.letters(order(OWNER, OTHER, "Owner@Customer.example"), scan, Past(), samples.PRACTICES, POST)
    assert [letter.recipient for letter in made] == [OWNER, OTHER]
    for letter in made:
        mail = read(letter)
        assert [address.addr_spec for address in mail["To"].addresses] == [letter.recipient]
        assert [name for name in mail if name in ("Cc", "Bcc", "Resent-To")] == []
        others = {OWNER, OTHER} - {letter.recipient}
        assert not [other for other in others if other.encode() in letter.message]


def test_a_recipient_who_cannot_be_written_to_costs_nobody_else_the_mail(caplog: pytest.LogCaptureFixture) -> None:
    scan = samples.exposed_server()
    made = letters.letters(order("jörg@customer.example", OWNER), scan, Past(), samples.PRACTICES, POST)
    assert [letter.recipient for letter in made] == [OWNER]
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert 'exposed-server: no mail: "jörg@customer.example" has characters before the @' in record.getMessage()


def test_a_scan_that_could_not_be_done_is_told_to_the_partner_alone() -> None:
    why = "Nothing answers.\r\nBcc: x@evil.example\x1b[31m <script>"
    letter = letters.failure_letter(
        "Synthetic\r\nBcc: y@evil.example", 7, why, "help@partner.example", POST, samples.AT
    )
    mail = read(letter)
    assert (letter.recipient, mail["To"]) == ("help@partner.example", "help@partner.example")
    assert mail["Bcc"] is None
    assert mail["Subject"] == "Not scanned: Synthetic Bcc: y@evil.example"
    text, html = body(mail, "plain"), body(mail, "html")
    assert "Why: Nothing answers. Bcc: x@evil.example <script>" in text
    assert "&lt;script&gt;" in html
    assert "the customer was not written to" in text


def test_two_failures_are_two_mails() -> None:
    made = [
        letters.failure_letter(site, run, "synthetic", "help@partner.example", POST, samples.AT)
        for site, run in (("a", 1), ("b", 1), ("a", 2))
    ]
    assert len({read(letter)["Message-ID"] for letter in made}) == 3


# --- what it is made of ---------------------------------------------------------------------------


def body(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body(preferencelist=(kind,))
    assert part is not None
    return str(part.get_content())


@pytest.mark.parametrize(
    ("attach", "kinds"),
    [
        ("none", []),
        ("html", ["text/html"]),
        ("pdf", ["application/pdf"]),
        ("both", ["text/html", "application/pdf"]),
    ],
)
def test_text_and_html_say_the_same_and_the_report_goes_with_it(attach: letters.Attach, kinds: list[str]) -> None:
    if "pdf" in attach or attach == "both":
        pytest.importorskip("weasyprint", reason="PDF needs the optional WeasyPrint")
    scan = samples.exposed_server()
    (letter,) = letters.letters(order(), scan, Past(), samples.PRACTICES, replace(POST, attach=attach))
    mail = read(letter)
    alternative = mail if attach == "none" else next(iter(mail.iter_parts()))
    assert alternative.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in alternative.iter_parts()] == ["text/plain", "text/html"]
    assert body(mail, "plain").replace("\r\n", "\n") == mails.text_part(samples.exposed_server)
    assert body(mail, "html").replace("\r\n", "\n").strip() == mails.html_part(samples.exposed_server).strip()
    files = list(mail.iter_attachments()) if kinds else []
    assert [part.get_content_type() for part in files] == kinds
    for part in files:
        assert part.get_filename() == f"exposed-server-2026-11-03.{part.get_content_type().rpartition('/')[2]}"
        content = part.get_content()
        assert "exposed-server" in content if isinstance(content, str) else content.startswith(b"%PDF-")


def test_a_message_is_the_same_each_time_and_its_own_for_each_scan_and_recipient() -> None:
    scan = samples.exposed_server()
    other = scan.model_copy(update={"id": "20261104T140500Z-00000001"})

    def made(scan: Scan, to: str) -> bytes:
        return letters.letters(order(to), scan, Past(), samples.PRACTICES, POST)[0].message

    assert made(scan, OWNER) == made(scan, OWNER)
    ids = [message_from_bytes(made(*one))["Message-ID"] for one in ((scan, OWNER), (scan, OTHER), (other, OWNER))]
    assert len(set(ids)) == 3
    assert all(id_.endswith("@partner.example>") for id_ in ids)


def test_the_mails_of_one_site_to_one_recipient_stand_in_one_thread() -> None:
    first, second = samples.exposed_server(), samples.exposed_server().model_copy(update={"id": "2"})
    another = samples.silent_with_presence()
    pasts = (Past(), mails.PASTS["same"], Past())
    found = [
        read(letters.letters(order(), scan, past, samples.PRACTICES, POST)[0])
        for scan, past in zip((first, second, another), pasts, strict=True)
    ]
    assert found[0]["References"] == found[1]["References"] == found[1]["In-Reply-To"]
    assert found[0]["In-Reply-To"] is None
    assert found[2]["References"] != found[0]["References"]
    for mail in found:
        assert mail["Auto-Submitted"] == "auto-generated"
        assert mail["Date"].datetime == samples.AT + timedelta(seconds=12)
        assert mail["From"] == "Synthetic Partner <reports@partner.example>"


def test_a_site_whose_every_text_is_an_attack_makes_a_mail_like_any_other() -> None:
    scan = samples.hostile(10_000)
    (letter,) = letters.letters(order(), scan, mails.PASTS["hostile"], samples.PRACTICES, replace(POST, attach="html"))
    mail = read(letter)
    urgent = {"Importance", "X-Priority"}
    assert sorted(mail.keys()) == sorted({*PLAIN, "In-Reply-To"} | (urgent if letter.urgent else set()))
    assert mail["Subject"].isprintable()
    (file,) = mail.iter_attachments()
    assert re.fullmatch(r"[\w-]+\.html", file.get_filename() or "")


# --- headers --------------------------------------------------------------------------------------

ANY = st.text(max_size=150) | st.text("\r\n\t :<>@,;\"'=?äé日\u202eabc", max_size=150)


def composed(**more: Any) -> bytes:
    values: dict[str, Any] = {
        "sender": "reports@partner.example",
        "sender_name": "Synthetic Partner",
        "recipient": OWNER,
        "subject": "synthetic",
        "text": "synthetic",
        "html": "<p>synthetic</p>",
        "when": datetime(2026, 11, 3, 14, 5, tzinfo=UTC),
        "about": "1",
        "thread": "synthetic",
        "first": True,
    }
    return deliver.compose(**(values | more))


PLAIN = message_from_bytes(composed(attachments=[deliver.Attachment("a.html", "text/html", b"a")])).keys()


def shown(text: str) -> str:
    """What a reader is to see of a text in a header, without its spaces; of a long one, the beginning."""
    return html_text(text, 2000).replace(" ", "")[:150]


def _letters(name: str) -> str:
    return re.sub(r'[][()<>@,:;.\\" ]', "", name)


@pytest.mark.parametrize("name", ["Synthetic, Inc.", 'The "Synthetic" (Dental)', "Jane Doe"])
def test_a_short_name_stands_as_it_is(name: str) -> None:
    (sender,) = message_from_bytes(composed(sender_name=name), policy=default)["From"].addresses
    assert sender.display_name == name


@settings(max_examples=400, deadline=None)
@given(subject=ANY, name=ANY, file=ANY, thread=ANY)
@example("x\r\nBcc: a@evil.example", "y\nTo: a@evil.example", "z\r\n\r\nbody", "\ud800")
@example("=?utf-8?q?evil?=", "=?utf-8?b?ZXZpbA==?= <a@evil.example>,", "=?utf-8?q?a?=", "")
@example("x" * 2000, "Söhne, Väter; Töchter und Mütter <a@evil.example>, b@evil.example " * 3, "ä" * 150, "")
@example("a" * 75 + "\x85\u2028b", '"quoted", \\ and "more" ' * 5, "../../etc/passwd", "")
def test_no_text_becomes_a_header_of_its_own(subject: str, name: str, file: str, thread: str) -> None:
    files = [deliver.Attachment(file, "text/html", b"a")]
    raw = composed(subject=subject, sender_name=name, thread=thread, attachments=files)
    assert raw.isascii()
    assert raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n")
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    mail = message_from_bytes(raw, policy=default)
    assert mail.keys() == PLAIN
    assert mail.defects == []
    (sender,) = mail["From"].addresses
    assert sender.addr_spec == "reports@partner.example"
    assert mail["To"] == OWNER
    assert str(mail["Subject"]).replace(" ", "")[:150] == shown(subject)
    assert _letters(sender.display_name)[:100] == _letters(shown(name))[:100]
    assert isinstance(mail, EmailMessage)
    assert body(mail, "plain").strip() == "synthetic"


@settings(max_examples=100, deadline=None)
@given(text=st.text(), html=st.text())
@example("\r\n.\r\n", "\ud800")
@example("--=_0\r\nContent-Type: text/html\r\n\r\nevil", "\x00\x0b\x0c\x85\u2028")
def test_what_is_written_is_what_is_read(text: str, html: str) -> None:
    raw = composed(text=text, html=html)
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 78
    mail = message_from_bytes(raw, policy=default)
    assert isinstance(mail, EmailMessage)

    def lines(part: str) -> list[str]:
        whole = part.encode("utf-8", "replace").decode()
        return whole.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")

    assert lines(body(mail, "plain")) == lines(text)
    assert lines(body(mail, "html")) == lines(html)


@pytest.mark.parametrize("wrong", ["jörg@customer.example", "a@b.example\r\nBcc: c@d.example", "a b@c.example", "a"])
def test_an_address_that_cannot_be_written_to_is_refused_with_a_sentence(wrong: str) -> None:
    for which in ("recipient", "sender"):
        with pytest.raises(Problem) as caught:
            composed(**{which: wrong})
        assert str(caught.value).isprintable()


def test_a_domain_that_is_not_ascii_is_written_in_ascii() -> None:
    mail = message_from_bytes(composed(recipient="owner@bücher.example", sender="a@bücher.example"), policy=default)
    assert mail["To"] == "owner@xn--bcher-kva.example"
    assert mail["Message-ID"].endswith("@xn--bcher-kva.example>")
