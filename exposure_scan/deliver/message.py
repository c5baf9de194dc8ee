"""Messages: a report as a mail of text and HTML, with files that go with it (RFC 5322, 2045 to 2047)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as POLICY
from email.utils import format_datetime

from exposure_scan.model import Problem
from exposure_scan.model.text import header_text, quoted

_LONGEST_LOCAL, _LONGEST_ADDRESS = 64, 254  # RFC 5321, 4.5.3.1.1, and RFC 3696, erratum 1690
_ONE_LINE = 60  # characters of a name and its address that stand in one line beside "From:"
_SPECIALS = re.compile(r'[][()<>@,:;.\\"]')  # RFC 5322, 3.2.3


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a mail."""

    name: str
    kind: str  # text/html
    content: bytes


def address(text: str) -> str:
    """A mail address as it goes over the wire, its domain in ASCII (RFC 5891).

    Raises:
        Problem: it is none, or its part before the @ is not ASCII, which few servers take (RFC 6531).
    """
    local, _, domain = text.rpartition("@")
    if not local.isascii():
        raise Problem(f"{quoted(text)} has characters before the @ that are not ASCII; give an address without them.")
    with suppress(UnicodeError):
        domain = domain.encode("idna").decode("ascii")
    fit = re.fullmatch(r"[!-~]+", local) and re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", domain)
    if not fit or set(local) & set('"(),:;<>@[\\]') or len(local) > _LONGEST_LOCAL:
        raise Problem(f"{quoted(text)} is no mail address; write it as owner@acme.example.")
    if len(local) + 1 + len(domain) > _LONGEST_ADDRESS:
        raise Problem(f"A mail address that begins with {quoted(local)} is longer than {_LONGEST_ADDRESS} characters.")
    return f"{local}@{domain}"


def compose(
    *,
    sender: str,
    sender_name: str,
    recipient: str,
    subject: str,
    text: str,
    html: str,
    when: datetime,
    about: str,
    thread: str,
    first: bool,
    urgent: bool = False,
    attachments: Sequence[Attachment] = (),
) -> bytes:
    """A message in the form in which it is sent, with CRLF; the same arguments give the same bytes.

    Args:
        sender: the address that it is from.
        sender_name: the name beside it.
        recipient: the address that it is for.
        subject: one line.
        text: the plain part.
        html: the part for those who like it better.
        when: the time of the Date header.
        about: what makes it one of its kind: the scan's id. Its Message-ID is made of this and the recipient.
        thread: what threads it: all mails with the same word stand together.
        first: whether it begins its thread.
        urgent: whether it says so in its headers (RFC 2156's Importance, RFC 4021).
        attachments: files that go with it.

    Raises:
        Problem: an address is none that can be written to.
    """
    sender, recipient = address(sender), address(recipient)
    domain = sender.rpartition("@")[2]
    message = EmailMessage(policy=POLICY)
    message["From"] = _mailbox(sender, sender_name)
    message["To"] = _mailbox(recipient, "")
    message["Subject"] = header_text(subject)
    message["Date"] = format_datetime(when)
    message["Message-ID"] = f"<{_digest(about, recipient)}@{domain}>"
    root = f"<{_digest('thread', thread, recipient)}@{domain}>"
    message["References"] = root
    if not first:
        message["In-Reply-To"] = root
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday note answers it
    if urgent:
        message["Importance"] = "high"
        message["X-Priority"] = "1"
    message.set_content(_whole(text), cte="quoted-printable")
    message.add_alternative(_whole(html), subtype="html", cte="quoted-printable")
    for one in attachments:
        main, _, sub = one.kind.partition("/")
        charset = {"charset": "utf-8"} if main == "text" else None
        message.add_attachment(one.content, maintype=main, subtype=sub, filename=header_text(one.name), params=charset)
    for number, part in enumerate(part for part in message.walk() if part.is_multipart()):
        # "=_" stands in no quoted-printable and no base64 text (RFC 2045, 6.7)
        part.set_boundary(f"=_{_digest('boundary', about, recipient, str(number))}")
    return message.as_bytes()


def _mailbox(spec: str, name: str) -> Address:
    local, _, domain = spec.rpartition("@")
    shown = header_text(name)
    if not shown.isascii() or len(shown) + len(spec) > _ONE_LINE:
        # Python 3.11 loses the quotation marks of a name that it folds, and a comma would begin another address.
        shown = " ".join(_SPECIALS.sub(" ", shown).split())
    return Address(shown, local, domain)


def _whole(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).hexdigest()[:32]
