"""The torture messages of RFC 4475, as answers to our OPTIONS and in the way of one.

What the RFC says of a message is said to elements that take part in a call. To us one thing matters: is this a SIP
answer to our request or not? So a request never is, whatever it looks like; a response is, once it carries our own
branch and Call-ID and its status line is one, however odd the rest of it may be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from conversations import Moment, Said, crumbs, field, hold, phone, reply

from exposure_scan.conversation import Connected, End, Observation
from exposure_scan.protocols import sip_message
from exposure_scan.protocols.sip import is_request, read

FOLDER = Path(__file__).parent / "data" / "rfc4475"
MESSAGES = {path.stem: path.read_bytes() for path in sorted(FOLDER.glob("*.sip"))}
WAYS = ("sip-udp", "sip", "tls-sip", "any")  # the conversations in which SIP is spoken


class Response(NamedTuple):
    """What must come of a response that carries our branch and Call-ID, and why."""

    valid: bool
    status: str | None
    because: str


RESPONSES = {
    "3.1.1.12-unreason": Response(True, "200", "well-formed; a reason phrase may hold UTF-8"),
    "3.1.1.13-noreason": Response(True, "100", "well-formed; a reason phrase may be empty. It is provisional"),
    "3.1.2.05-scalarlg": Response(
        True, "503", "its numbers are too large for a client that uses them, and we use none: who says this speaks SIP"
    ),
    "3.1.2.19-bigcode": Response(False, None, "no status code has ten digits: the message is to be dropped"),
    "3.3.10-bcast": Response(
        True, "200", "well-formed; a client drops it for its second Via, and still it is a SIP answer with our branch"
    ),
}
REQUESTS = sorted(set(MESSAGES) - set(RESPONSES))
# Requests that do not say where they end, or not truly: on a stream what follows them cannot be told from them.
NO_END = {
    "3.1.1.08-dblreq": "the second request in the datagram is longer than it says",
    "3.1.2.02-clerr": "Content-Length is larger than the body",
    "3.1.2.03-ncl": "Content-Length is negative",
    "3.3.09-mcl01": "two Content-Lengths, and neither is the body's",
    "3.4.1-inv2543": "no Content-Length, which RFC 2543 allows over UDP alone (RFC 3261, section 18.3)",
}
# What no stream takes for the beginning of SIP, so that it is not waited for what comes behind it.
NO_SIP = {
    "3.1.2.10-trws": "blanks behind the version: no start line of SIP",
    "3.1.2.16-badvers": "version 7.0: no start line of SIP 2.0",
}

every_message = pytest.mark.parametrize("name", MESSAGES)
every_request = pytest.mark.parametrize("name", REQUESTS)
every_response = pytest.mark.parametrize("name", RESPONSES)
Figure = Callable[[str, int], None]


def ours(message: bytes, request: bytes) -> bytes:
    """The message with the branch and the Call-ID of our request wherever it has any of its own."""
    branch = re.search(r"branch=([^;]+)", field(request, "Via"))
    assert branch is not None
    message = re.sub(rb"(?i)(;\s*branch\s*=\s*)[^\s;,]+", rb"\g<1>" + branch[1].encode(), message, count=1)
    return re.sub(rb"(?im)^((?:call-id|i) *: *)[^\r\n]+", rb"\g<1>" + field(request, "Call-ID").encode(), message)


def answering(message: bytes, *, in_crumbs: bool = False) -> Callable[[Moment], Sequence[Said]]:
    """Says the message to each OPTIONS, and then, on a stream, nothing more."""

    def peer(moment: Moment) -> Sequence[Said]:
        if not moment.words.startswith(b"OPTIONS "):
            return []
        words = ours(message, moment.words)
        return [*(crumbs(words) if in_crumbs else [words]), End.CLOSED]

    return peer


def heard(probe: str, message: bytes) -> Observation:
    return hold(probe, lambda moment: [message] if moment.words.startswith(b"OPTIONS ") else []).observation


# --- every message ------------------------------------------------------------------------------------------


def test_all_of_them_are_here_and_each_is_what_the_table_says() -> None:
    assert len(MESSAGES) == 49
    started = {name for name, data in MESSAGES.items() if data.startswith(b"SIP/2.0 ")}
    assert started == set(RESPONSES)
    # Where the RFC says nothing of a wrong length the length is right, so the bytes are what it prints.
    for name, data in MESSAGES.items():
        head, _, body = data.partition(b"\r\n\r\n")
        told = re.findall(rb"(?im)^(?:content-length|l) *: *(-?[0-9]+)", head)
        right = [str(len(body)).encode()] == told
        assert right == (name not in NO_END), name


@every_message
@pytest.mark.parametrize("probe", WAYS)
def test_none_is_an_answer_to_us_as_it_stands(probe: str, name: str, figure: Figure) -> None:
    seen = heard(probe, MESSAGES[name])
    assert seen.answered
    assert (seen.service, seen.valid) == (None, False)
    figure("fuzz: RFC 4475 messages read", 1)


@every_message
def test_reading_takes_it_apart_and_never_fails(name: str) -> None:
    message = sip_message.parse(MESSAGES[name])
    assert message.status == (RESPONSES[name].status if name in RESPONSES else None)
    assert message.first("cseq")
    assert message.fields.get("via")
    assert len(message.vias) <= 10
    assert [*sip_message.messages(MESSAGES[name])] or name == "3.1.2.02-clerr"
    for other in MESSAGES.values():
        assert read(other, MESSAGES[name], Connected(("198.51.100.250", 5060), ("198.51.100.10", 5060))) is None or (
            other is MESSAGES[name] and name in RESPONSES
        )


# --- requests that come where an answer is awaited ---------------------------------------------------------------


@every_request
@pytest.mark.parametrize("probe", ["sip-udp", "sip"])
@pytest.mark.parametrize("in_crumbs", [False, True])
def test_a_request_is_no_answer_even_with_our_own_words_in_it(probe: str, name: str, in_crumbs: bool) -> None:
    if in_crumbs and probe == "sip-udp":
        return  # a datagram is whole
    seen = hold(probe, answering(MESSAGES[name], in_crumbs=in_crumbs)).observation
    assert seen.answered
    assert (seen.service, seen.valid) == (None, False)


@every_request
def test_an_answer_behind_a_request_is_found(name: str, figure: Figure) -> None:
    """Over UDP always; on a stream wherever the request says where it ends."""
    both = phone(lambda _: MESSAGES[name], reply)
    assert hold("sip-udp", both).observation.valid
    found = hold("sip", lambda moment: [b"".join(map(bytes, both(moment)))]).observation.valid  # type: ignore[arg-type]
    assert found == (name not in {*NO_END, *NO_SIP})
    figure("fuzz: RFC 4475 messages read", 2)


@every_request
def test_who_asks_first_is_known_as_such(name: str) -> None:
    """Of a capture: what the host itself asked says nothing of what it answers."""
    strange = {"3.1.1.02-intmeth", "3.1.1.05-esc02", "3.1.2.08-lwsruri", "3.1.2.09-lwsstart", *NO_SIP}
    assert is_request(MESSAGES[name]) == (name not in strange)


# --- responses ---------------------------------------------------------------------------------------------------


@every_response
@pytest.mark.parametrize("probe", WAYS)
@pytest.mark.parametrize("in_crumbs", [False, True])
def test_a_response_to_us_is_one_if_its_status_line_is(probe: str, name: str, in_crumbs: bool, figure: Figure) -> None:
    if in_crumbs and probe == "sip-udp":
        return  # a datagram is whole
    seen = hold(probe, answering(MESSAGES[name], in_crumbs=in_crumbs)).observation
    expected = RESPONSES[name]
    assert seen.answered
    assert (seen.valid, seen.service) == (expected.valid, "sip" if expected.valid else None), expected.because
    assert seen.said.get("sip.status") == expected.status
    figure("fuzz: RFC 4475 messages read", 1)


def test_what_is_only_provisional_is_told() -> None:
    seen = hold("sip-udp", answering(MESSAGES["3.1.1.13-noreason"])).observation
    assert "Only a provisional SIP answer came, no final one." in seen.notes


def test_the_reason_phrase_is_kept_letter_by_letter() -> None:
    seen = hold("sip-udp", answering(MESSAGES["3.1.1.12-unreason"])).observation
    assert seen.banner == "SIP/2.0 200 = 2**3 * 5**2 но сто девяносто девять - простое"


# --- answers in the dress of the requests: a server copies Via, From, To, Call-ID and CSeq (RFC 3261, 8.2.6.2) -----


def dressed(name: str, request: bytes) -> bytes:
    """The answer to us that has every header of the message as it is written there, with our words in it."""
    head, _, _ = ours(MESSAGES[name], request).partition(b"\r\n\r\n")
    _, _, fields = head.partition(b"\r\n")
    fields = re.sub(rb"(?im)^((?:content-length|l) *: *)[^\r]+", rb"\g<1>0", fields)
    if not re.search(rb"(?i);\s*branch\s*=", fields):
        fields += b"\r\nVia: " + field(request, "Via").encode()
    if not re.search(rb"(?im)^(?:call-id|i) *:", fields):
        fields += b"\r\nCall-ID: " + field(request, "Call-ID").encode()
    return b"SIP/2.0 200 OK\r\n" + fields + b"\r\n\r\n"


@every_request
@pytest.mark.parametrize("probe", WAYS)
def test_an_answer_with_headers_as_odd_as_the_request_s_is_not_missed(probe: str, name: str, figure: Figure) -> None:
    seen = hold(probe, phone(lambda request: dressed(name, request))).observation
    assert (seen.service, seen.valid, seen.said["sip.status"]) == ("sip", True, "200")
    figure("fuzz: RFC 4475 messages read", 1)
