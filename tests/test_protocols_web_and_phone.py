"""HTTP and SIP: what is read out of an answer, and what is not believed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest
from conversations import (
    CALLER,
    LOCAL,
    PEER,
    TOKEN,
    Moment,
    Said,
    Talk,
    crumbs,
    field,
    hold,
    phone,
    reply,
    silent,
)

from exposure_scan.conversation import Caller, End, NotSecured, Secured

TLS = Secured("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256", b"")
PLAIN = NotSecured("wrong version number")

F3 = b"HTTP/1.0 200 OK\r\nServer: IST OIS\r\n\r\n<html><title>Phone&nbsp;Station&nbsp;Information</title>"
F4 = (
    b"HTTP/1.0 200 OK\r\nAccept-Ranges: none\r\nConnection: close\r\nContent-Encoding: identity\r\n"
    b"Content-Length: 4240\r\nContent-Type: text/html; charset=ISO-8859-1\r\nServer: IST OIS\r\n\r\n"
    + b"<title>Allworx Hosted Web Site</title>".ljust(4240)
)
F5 = (
    b"HTTP/1.0 403 Forbidden\r\nAccept-Ranges: none\r\nConnection: close\r\nContent-Encoding: identity\r\n"
    b"Content-Length: 0\r\nContent-Type: text/plain\r\nServer: IST OIS\r\n\r\n"
)
F6 = (
    b"HTTP/1.0 404 Not Found\r\nAccept-Ranges: none\r\nConnection: close\r\nContent-Length: 0\r\n"
    b'Server: IST OIS\r\nWWW-Authenticate: Digest realm="users@pbx.lab.invalid", nonce="1"\r\n\r\n'
)


def web(
    answer: bytes, *more: Said, cut: Callable[[bytes], list[Said]] = lambda data: [data]
) -> Callable[..., list[Said]]:
    """A web server that only ever gives this answer, in plain text and inside TLS, to GET alone."""
    return lambda moment: [*cut(answer), *more] if moment.words.startswith(b"GET / ") else []


# --- HTTP ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [lambda data: [data], crumbs], ids=["whole", "crumbs"])
@pytest.mark.parametrize(
    ("answer", "end", "said"),
    [
        (F3, [End.CLOSED], {"http.status": "200", "http.title": "Phone&nbsp;Station&nbsp;Information"}),
        (
            F4,
            [],
            {"http.status": "200", "http.title": "Allworx Hosted Web Site", "http.accept-ranges": "none"},
        ),
        (F5, [], {"http.status": "403", "http.accept-ranges": "none"}),
        (
            F6,
            [],
            {
                "http.status": "404",
                "http.accept-ranges": "none",
                "http.www-authenticate": 'Digest realm="users@pbx.lab.invalid", nonce="1"',
            },
        ),
    ],
    ids=["F3", "F4", "F5", "F6"],
)
def test_the_vendors_pages(
    answer: bytes, end: list[Said], said: dict[str, str], cut: Callable[[bytes], list[Said]]
) -> None:
    talk = hold("http", web(answer, *end, cut=cut), port=8080)
    assert talk.observation.said == said | {"http.server": "IST OIS"}
    assert (talk.observation.service, talk.observation.valid) == ("http", True)
    assert talk.observation.banner == answer.split(b"\r")[0].decode() + ", Server: IST OIS"
    assert talk.connections == 1
    assert talk.waited == 0, "an answer that says its length, or ends, is not waited for"


def test_the_request_is_one_harmless_get_that_says_who_asks() -> None:
    talk = hold("http", web(F5), port=8080)
    assert talk.sent == [
        (
            b"GET / HTTP/1.1\r\nHost: 198.51.100.10:8080\r\n"
            b"User-Agent: exposure-scan/0.1.0 (authorized security check; noc@partner.invalid)\r\n"
            b"Accept: */*\r\nConnection: close\r\nFrom: noc@partner.invalid\r\n\r\n"
        )
    ]
    six = hold("http", web(F5), port=80, address="2001:db8::10", caller=Caller("exposure-scan/1", "ask\r\nX: us"))
    assert b"\r\nHost: [2001:db8::10]\r\n" in six.sent[0]
    assert b"From:" not in six.sent[0]
    assert b"\r\nX:" not in six.sent[0], "a contact cannot add header fields"


def test_a_redirect_is_written_down_and_not_followed() -> None:
    answer = b"HTTP/1.1 302 Found\r\nLocation: http://198.51.100.99/\r\nContent-Length: 0\r\n\r\n"
    talk = hold("http", web(answer))
    assert talk.observation.said["http.location"] == "http://198.51.100.99/"
    assert (talk.connections, len(talk.sent)) == (1, 1)


def test_a_title_keeps_its_words_and_loses_only_blanks() -> None:
    body = "<titlebar>no</titlebar><TITLE lang='en'>\n A\u00a0b \t &amp;\r\n c </TITLE><title>d</title>".encode()
    talk = hold("http", web(b"HTTP/1.1 200 OK\r\n\r\n" + body, End.CLOSED))
    assert talk.observation.said["http.title"] == "A\u00a0b &amp; c"


def test_a_head_with_bare_line_feeds_and_folds_is_read() -> None:
    talk = hold("http", web(b"HTTP/1.0 200 OK\nServer: one\n  two\nCONTENT-LENGTH: 0\n\n"))
    assert talk.observation.said["http.server"] == "one two"
    assert talk.waited == 0


def test_an_endless_page_is_bounded() -> None:
    talk = hold("http", web(b"HTTP/1.1 200 OK\r\nServer: lab\r\n\r\n" + b"x" * 200_000))
    assert talk.observation.said["http.server"] == "lab"
    assert sum(len(event.data) for event in talk.events if event.what == "received") <= 25_000
    head = hold("http", web(b"HTTP/1.1 200 OK\r\nServer: lab\r\n" + b"X: y\r\n" * 50_000))
    assert (head.observation.service, head.observation.valid) == ("http", False)


@pytest.mark.parametrize("probe", ["http", "sip", "any", "greeting", "tls-greeting", "tls-sip", "tls-http"])
def test_a_web_server_is_found_behind_every_hint_in_plain_text_and_in_tls(probe: str) -> None:
    plain = hold(probe, web(F5), tls=PLAIN)
    assert (plain.observation.service, plain.observation.tls) == ("http", None)
    inside = hold(probe, lambda moment: web(F5)(moment) if moment.secure else [], tls=TLS)
    assert inside.observation.service == "http"
    assert inside.observation.tls is not None
    assert max(plain.connections, inside.connections) <= 4


def test_a_tls_port_that_refuses_plain_http_in_plain_http_is_looked_into() -> None:
    refusal = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
    both = hold("http", lambda moment: web(F5 if moment.secure else refusal)(moment), tls=TLS)
    assert both.observation.said["http.status"] == "403"
    assert both.observation.tls is not None
    honest = hold("http", web(refusal), tls=PLAIN)
    assert (honest.observation.said["http.status"], honest.observation.tls) == ("400", None)
    assert len(honest.sent) == 1


# --- SIP -----------------------------------------------------------------------------------------


def test_the_options_request_is_to_the_letter() -> None:
    (request,) = set(hold("sip-udp", port=5060).sent)
    lines = request.decode("ascii").split("\r\n")
    assert lines[0] == f"OPTIONS sip:{PEER} SIP/2.0"
    assert lines[-2:] == ["", ""]
    assert re.fullmatch(rf"SIP/2\.0/UDP {LOCAL[0]}:40000;branch=z9hG4bK[0-9a-f]{{24}};rport", field(request, "Via"))
    assert field(request, "Max-Forwards") == "70"
    assert field(request, "To") == f"<sip:{PEER}>"
    assert re.fullmatch(r"<sip:exposure-scan@198\.51\.100\.250>;tag=[0-9a-f]{16}", field(request, "From"))
    assert field(request, "CSeq") == "1 OPTIONS"
    assert field(request, "Contact") == "<sip:exposure-scan@198.51.100.250:40000>"
    assert field(request, "User-Agent") == CALLER.agent
    assert field(request, "Accept") == "application/sdp"
    assert field(request, "Content-Length") == "0"


def test_the_transport_and_an_unusual_port_stand_in_the_uri() -> None:
    (udp,) = set(hold("sip-udp", port=5061, address="2001:db8::10", local=("2001:db8::250", 40000)).sent)
    assert udp.startswith(b"OPTIONS sip:[2001:db8::10]:5061 SIP/2.0\r\n")
    assert b"UDP [2001:db8::250]:40000;" in udp
    tcp = hold("sip", phone(reply), port=5060).sent[0]
    assert tcp.startswith(b"OPTIONS sip:198.51.100.10;transport=tcp SIP/2.0\r\nVia: SIP/2.0/TCP ")
    tls = hold("tls-sip", phone(reply), port=5061, tls=TLS).sent[0]
    assert tls.startswith(b"OPTIONS sip:198.51.100.10;transport=tls SIP/2.0\r\nVia: SIP/2.0/TLS ")


def test_silence_is_asked_three_times_with_the_same_words_within_timer_e() -> None:
    talk = hold("sip-udp")
    assert len(talk.sent) == 3
    assert len(set(talk.sent)) == 1
    assert talk.waited == pytest.approx(2.7)
    assert (talk.observation.service, talk.observation.answered) == (None, False)


def test_the_same_token_gives_the_same_bytes_and_another_token_others() -> None:
    first, again, other = (hold("sip-udp", token=token).sent[0] for token in (TOKEN, TOKEN, "ff" * 8))
    assert first == again
    for name in ("Via", "Call-ID", "From"):
        assert field(first, name) != field(other, name)


@pytest.mark.parametrize("probe", ["sip-udp", "sip", "tls-sip", "http", "any", "greeting"])
def test_a_matching_answer_is_sip_on_every_transport(probe: str) -> None:
    more = "Server: lab-sip (synthetic)\r\nAllow: INVITE, ACK,\r\n OPTIONS\r\nContact: <sip:198.51.100.10>\r\n"
    talk = hold(probe, phone(lambda request: reply(request, more=more)), tls=TLS if "tls" in probe else PLAIN)
    seen = talk.observation
    assert (seen.service, seen.valid) == ("sip", True)
    assert seen.banner == "SIP/2.0 200 OK, Server: lab-sip (synthetic)"
    assert seen.said["sip.allow"] == "INVITE, ACK, OPTIONS"
    assert seen.said["sip.status"] == "200"
    assert ";rport=40000" in seen.said["sip.via"]
    assert (seen.tls is not None) == ("tls" in probe)
    assert seen.notes == ()


@pytest.mark.parametrize("probe", ["sip-udp", "sip"])
@pytest.mark.parametrize("names", [("v", "i"), ("VIA", "call-id"), ("via ", "I")])
def test_compact_and_oddly_written_names_are_read(probe: str, names: tuple[str, str]) -> None:
    talk = hold(probe, phone(lambda request: reply(request, "405 No", names=names, more="m: <sip:a@lab.invalid>\r\n")))
    assert (talk.observation.service, talk.observation.said["sip.status"]) == ("sip", "405")
    assert talk.observation.said["sip.contact"] == "<sip:a@lab.invalid>"


def another_branch(message: bytes) -> bytes:
    return message.replace(b"branch=z9hG4bK", b"branch=z9hG4bKx")


def another_call(message: bytes) -> bytes:
    return message.replace(b"Call-ID: ", b"Call-ID: x")


STRANGE: dict[str, Callable[[bytes], Said]] = {
    "another branch and call": lambda request: another_branch(another_call(reply(request))),
    "another branch and CSeq": lambda request: another_branch(reply(request)).replace(b"CSeq: 1", b"CSeq: 2"),
    "another call and method": lambda request: another_call(reply(request)).replace(b"1 OPTIONS", b"1 REGISTER"),
    "another branch and no CSeq": lambda request: another_branch(reply(request)).replace(b"CSeq:", b"X:"),
    "our own words": lambda request: request,
    "a request": lambda _: b"OPTIONS sip:us SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 0\r\n\r\n",
    "no SIP": lambda _: b"hello\r\n",
    "another version": lambda request: reply(request).replace(b"SIP/2.0 200", b"SIP/3.0 200"),
}


@pytest.mark.parametrize("probe", ["sip-udp", "sip"])
@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE.keys())
def test_what_is_no_answer_to_us_is_not_sip(probe: str, strange: Callable[[bytes], Said]) -> None:
    talk = hold(probe, phone(strange), tls=PLAIN)
    seen = talk.observation
    assert (seen.service, seen.valid, seen.answered) == (None, False, True)
    assert len(seen.notes) == 1
    assert "sip.status" not in seen.said


@pytest.mark.parametrize("probe", ["sip-udp", "sip"])
def test_an_answer_after_a_strange_message_still_counts_and_the_strange_one_is_noted(probe: str) -> None:
    talk = hold(probe, phone(STRANGE["a request"], STRANGE["another branch and call"], reply))
    assert talk.observation.service == "sip"
    assert len(talk.observation.notes) == 1


@pytest.mark.parametrize("probe", ["sip-udp", "sip"])
def test_a_provisional_answer_waits_for_the_final_one(probe: str) -> None:
    def trying(request: bytes) -> Said:
        return reply(request, "100 Trying")

    both = hold(probe, phone(trying, reply))
    assert both.observation.said["sip.status"] == "200"
    alone = hold(probe, phone(trying))
    assert (alone.observation.service, alone.observation.said["sip.status"]) == ("sip", "100")
    assert "provisional" in alone.observation.notes[0]
    assert len(alone.sent) == 1, "a provisional answer ends the repetition"


def test_an_icmp_error_ends_the_asking_at_once() -> None:
    talk = hold("sip-udp", phone(lambda _: End.RESET))
    assert len(talk.sent) == 1
    assert talk.observation.answered is False


# --- ports that say nothing ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probe", "seconds"),
    [
        ("greeting", 10),
        ("http", 5),
        ("sip", 5),
        ("tls-http", 5),
        ("tls-sip", 5),
        ("tls-greeting", 5),
        ("any", 5),
        ("moved", 10.5),
    ],
)
def test_a_port_that_takes_connections_and_says_nothing_ends_in_time(probe: str, seconds: float) -> None:
    talk = hold(probe)
    assert (talk.observation.service, talk.observation.answered, talk.observation.banner) == (
        None,
        False,
        None,
    )
    assert talk.waited <= seconds
    assert talk.connections <= 4
    inside = hold(probe, tls=TLS)
    assert (inside.observation.service, inside.observation.answered) == (None, True)
    assert inside.observation.tls is not None


@pytest.mark.parametrize("end", [End.CLOSED, End.RESET])
@pytest.mark.parametrize("probe", ["greeting", "http", "sip", "tls-http", "any", "silent"])
def test_a_port_that_hangs_up_costs_no_time(probe: str, end: End) -> None:
    talk = hold(probe, lambda _: [end], tls=NotSecured("closed"))
    assert (talk.observation.answered, talk.waited) == (False, 0)


def test_no_connection_is_no_answer_and_a_lost_second_one_keeps_the_first() -> None:
    assert hold("http", connects=0).observation.answered is False
    talk = hold("http", lambda moment: [b"what?\r\n"] if moment.words else [], tls=PLAIN, connects=1)
    assert (talk.observation.answered, talk.observation.banner) == (True, "what?")
    assert talk.observation.notes == ("The port took no further connection.",)


def test_the_canary_is_only_listened_to() -> None:
    talk = hold("silent", silent)
    assert (talk.sent, talk.waited, talk.observation.answered) == ([], 0.5, False)
    assert hold("silent", lambda _: [b"hi\r\n"]).observation.banner == "hi"


def confusing(moment: Moment) -> Sequence[Said]:
    """Answers each way of talking in the words of another."""
    if moment.words.startswith(b"GET"):
        return [b"SIP/2.0 400 Bad\r\n\r\n"]
    if moment.words.startswith(b"OPTIONS"):
        return [b"220 hello\r\n"]
    return []


@pytest.mark.parametrize("tls", [PLAIN, TLS])
def test_a_port_that_leads_in_circles_ends_after_four_connections(tls: Secured | NotSecured) -> None:
    talk: Talk = hold("http", confusing, tls=tls)
    assert talk.observation.service is None
    assert talk.connections == 4


def test_no_way_of_talking_is_gone_twice() -> None:
    def speak(moment: Moment) -> Sequence[Said]:
        if moment.secure:
            return web(F5)(moment)
        return [b"HTTP/9 what\r\n"] if moment.words.startswith(b"OPTIONS") else confusing(moment)

    talk = hold("http", speak, tls=TLS)
    assert (talk.observation.service, talk.connections) == ("http", 3)
