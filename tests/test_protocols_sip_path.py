"""What one SIP answer tells of the way: rewriting, translation, private addresses. All answers are synthetic."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conversations import LOCAL, PEER, Talk, field, hold, phone, reply
from hypothesis import given
from hypothesis import strategies as st

from exposure_scan.conversation import Observation

BEHIND_NAT = ("10.0.2.15", 40000)
ALG = "A SIP ALG does that: a router that rewrites SIP, on this side or on theirs."


def ask(answer: Callable[[bytes], bytes], probe: str = "sip-udp", local: tuple[str, int] = LOCAL) -> Observation:
    talk: Talk = hold(probe, phone(answer), port=5060, local=local)
    seen = talk.observation
    assert (seen.service, seen.valid, seen.answered) == ("sip", True, True)
    return seen


def saying(more: str, local: tuple[str, int] = LOCAL, address: str = PEER) -> Observation:
    """The answer with further fields; the Via's rport is the port that we sent from."""
    return hold(
        "sip-udp", phone(lambda request: reply(request, more=more)), port=5060, local=local, address=address
    ).observation


# --- rewriting -----------------------------------------------------------------------------------


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def answer(request: bytes) -> bytes:
        whole = reply(request)
        assert old in whole
        return whole.replace(old, new)

    return answer


def topped(request: bytes) -> bytes:
    """A proxy left its own Via on top of ours."""
    return reply(request).replace(b"Via: ", b"Via: SIP/2.0/UDP 198.51.100.77:5066;branch=z9hG4bK1\r\nVia: ", 1)


def without_via(request: bytes) -> bytes:
    return b"".join(line for line in reply(request).splitlines(keepends=True) if not line.startswith(b"Via:"))


REWRITTEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "branch": (swap(b"branch=z9hG4bK", b"branch=z9hG4bKx"), "the branch of our Via is another"),
    "call": (swap(b"Call-ID: ", b"Call-ID: x"), "the Call-ID is another"),
    "sent-by": (
        swap(b"UDP 198.51.100.250:40000", b"UDP 198.51.100.9:1024"),
        "Via 198.51.100.250:40000 came back as 198.51.100.9:1024",
    ),
    "sent-by without its port": (
        swap(b"UDP 198.51.100.250:40000", b"UDP 198.51.100.250"),
        "Via 198.51.100.250:40000 came back as 198.51.100.250",
    ),
    "from": (
        swap(b"From: <sip:exposure-scan@198.51.100.250>", b"From: <sip:exposure-scan@198.51.100.9>"),
        "our From 198.51.100.250 came back as 198.51.100.9",
    ),
    "tag": (swap(b">;tag=", b">;tag=x"), "the tag of our From is another"),
    "to": (swap(b"To: <sip:198.51.100.10>", b"To: <sip:pbx.invalid>"), "our To 198.51.100.10 came back as pbx.invalid"),
    "our contact": (
        lambda request: reply(request, more="Contact: <sip:exposure-scan@198.51.100.9:1024>\r\n"),
        "our Contact 198.51.100.250 came back as 198.51.100.9",
    ),
    "a proxy's Via": (topped, "the answer still carries the Via of 198.51.100.77:5066"),
    "no Via": (without_via, "our Via is gone"),
}


@pytest.mark.parametrize(("answer", "said"), REWRITTEN.values(), ids=REWRITTEN.keys())
def test_a_rewritten_request_is_noted_and_its_answer_is_sip(answer: Callable[[bytes], bytes], said: str) -> None:
    assert ask(answer).notes == (f"Our SIP request came back changed: {said}. {ALG}",)


@pytest.mark.parametrize("probe", ["sip", "tls-sip", "http"])
def test_over_a_stream_a_changed_branch_is_an_answer_too(probe: str) -> None:
    (note,) = ask(lambda request: swap(b"branch=z9hG4bK", b"branch=z9hG4bKx")(request), probe).notes
    assert "the branch of our Via is another" in note


def test_several_changes_make_one_note() -> None:
    answer = swap(b"198.51.100.250", b"198.51.100.9")
    (note,) = ask(answer).notes
    assert "Via 198.51.100.250:40000 came back as 198.51.100.9:40000; our From " in note


def test_ours_is_the_last_via_where_its_branch_was_changed() -> None:
    (note,) = ask(lambda request: topped(request).replace(b"branch=z9hG4bK", b"branch=z9hG4bKx")).notes
    assert "the branch of our Via is another" in note
    assert "came back as" not in note


SAME: dict[str, Callable[[bytes], bytes]] = {
    "as it was": reply,
    "a name and blanks": lambda request: reply(request).replace(b"From: ", b'From:  "Scanner"  '),
    "the branch in capitals": lambda request: reply(request).replace(b"branch=z9hG4bK", b"BRANCH=Z9HG4BK"),
    "received is where we are": lambda request: reply(request, via=";received=198.51.100.250"),
    "received in IPv6 form": lambda request: reply(request, via=";received=::ffff:198.51.100.250"),
    "received from nowhere": lambda request: reply(request, via=";received=unknown"),
    "our contact, echoed": lambda request: reply(
        request, more=f"Contact: {field(request, 'Contact')}\r\n"
    ),
    "spaces in the Via": lambda request: reply(request).replace(b"SIP/2.0/UDP ", b"SIP / 2.0 / UDP  "),
    "no rport": lambda request: reply(request).replace(b";rport=40000", b""),
    "rport without a value": lambda request: reply(request).replace(b";rport=40000", b";rport"),
}  # fmt: skip


@pytest.mark.parametrize("answer", SAME.values(), ids=SAME.keys())
def test_what_came_back_as_it_was_raises_no_note(answer: Callable[[bytes], bytes]) -> None:
    seen = ask(answer)
    assert seen.notes == ()
    assert "sip.private" not in seen.said


def test_a_default_port_may_be_left_out_of_the_via_and_ipv6_be_written_otherwise() -> None:
    def short(request: bytes) -> bytes:
        return reply(request).replace(b";rport=40000", b"").replace(b"[2001:db8::250]:5060;", b"[2001:DB8:0::250];")

    local = ("2001:db8::250", 5060)
    assert hold("sip-udp", phone(short), port=5060, local=local, address="2001:db8::10").observation.notes == ()


# --- translation ---------------------------------------------------------------------------------


def seen_from(received: str, rport: int, local: tuple[str, int]) -> Observation:
    def answer(request: bytes) -> bytes:
        via = f";rport={rport}" + (f";received={received}" if received else "")
        return reply(request).replace(b";rport=40000", via.encode())

    return ask(answer, local=local)


def test_our_own_router_is_no_leak_of_theirs() -> None:
    seen = seen_from("198.51.100.7", 61000, BEHIND_NAT)
    assert seen.notes == (
        (
            "The host saw our request come from 198.51.100.7:61000, not from 10.0.2.15:40000: addresses are translated "
            "on the way, as is usual where the scanner is behind a router."
        ),
    )
    assert "sip.private" not in seen.said


def test_a_translated_port_alone_is_noted() -> None:
    (note,) = seen_from("", 61000, LOCAL).notes
    assert note.startswith("The host saw our request come from 198.51.100.250:61000, not from 198.51.100.250:40000: ")


def test_a_private_source_of_a_public_scanner_shows_a_router_at_the_site() -> None:
    seen = seen_from("192.168.2.1", 1024, LOCAL)
    assert "from 192.168.2.1:1024" in seen.notes[0]
    assert seen.notes[0].endswith(": a router at the site translates addresses.")
    assert seen.said["sip.private"] == "192.168.2.1 (Via)"


def test_a_private_source_of_a_private_scanner_may_be_its_own_router_and_is_no_leak() -> None:
    """Two translations on our side, the outer one with an ALG that undoes `received`, look like this."""
    for received in ("100.64.3.2", "192.168.1.5"):
        seen = seen_from(received, 40000, BEHIND_NAT)
        assert len(seen.notes) == 1
        assert seen.notes[0].endswith(": a router here or there translates addresses.")
        assert "sip.private" not in seen.said


# --- private addresses ---------------------------------------------------------------------------

LEAKS = {
    "Contact: <sip:192.168.7.9:5060>": "192.168.7.9 (Contact)",
    "m: <sip:pbx@100.64.3.2>": "100.64.3.2 (Contact)",
    "Contact: <sip:a@lab.invalid>, <sip:172.16.0.1>": "172.16.0.1 (Contact)",
    "Record-Route: <sip:10.0.0.1;lr>": "10.0.0.1 (Record-Route)",
    'Warning: 399 10.0.0.2:5060 "synthetic"': "10.0.0.2 (Warning)",
    'WWW-Authenticate: Digest realm="10.0.0.3", nonce="1"': "10.0.0.3 (WWW-Authenticate)",
    "X-Synthetic: <sip:pbx@10.0.0.4:5070>": "10.0.0.4 (X-Synthetic)",
    "Contact: <sip:10.0.0.5>\r\nRecord-Route: <sip:10.0.0.5>": "10.0.0.5 (Contact), 10.0.0.5 (Record-Route)",
    "Record-Route: <sip:10.0.0.6>\r\nContact: <sip:10.0.0.5>": "10.0.0.5 (Contact), 10.0.0.6 (Record-Route)",
}


@pytest.mark.parametrize("local", [LOCAL, BEHIND_NAT], ids=["public", "behind NAT"])
@pytest.mark.parametrize(("more", "private"), LEAKS.items())
def test_a_private_address_in_what_the_peer_says_of_itself_is_its_own(
    more: str, private: str, local: tuple[str, int]
) -> None:
    seen = saying(more + "\r\n", local=local)
    assert seen.said["sip.private"] == private
    address, place = private.split(", ")[0].rstrip(")").split(" (")
    assert seen.notes[0] == f"The SIP answer shows the private address {address} in its {place} field."


NO_LEAK = (
    "Contact: <sip:198.51.100.10>",
    "Contact: <sip:172.32.0.1>, <sip:100.128.0.1>, <sip:192.169.0.1>, <sip:11.0.0.1>",
    "Contact: <sip:10.0.0.500>, <sip:pbx-10.0.0.5.invalid>, <sip:010.1.1.1>",
    "Server: synthetic/10.1.2.3",
    "User-Agent: synthetic 10.0.0.1 (192.168.1.1)",
    "X-Version: 10.0.0.1",
    'WWW-Authenticate: Digest realm="pbx", nonce="10.0.0.1"',
    "Call-Info: none",
)


@pytest.mark.parametrize("more", NO_LEAK)
def test_public_addresses_and_versions_are_no_leak(more: str) -> None:
    seen = saying(more + "\r\n")
    assert seen.notes == ()
    assert "sip.private" not in seen.said


def test_our_own_private_address_is_no_leak_wherever_it_stands() -> None:
    more = "Contact: <sip:exposure-scan@10.0.2.15:40000>, <sip:10.0.2.15>\r\nRecord-Route: <sip:10.0.2.15>\r\n"
    seen = saying(more, local=BEHIND_NAT)
    assert seen.notes == ()
    assert "sip.private" not in seen.said


def test_our_own_private_address_is_no_leak_where_an_alg_rewrote_it_in_part() -> None:
    def answer(request: bytes) -> bytes:
        public = reply(request).replace(b"10.0.2.15", b"198.51.100.9")
        return public.replace(b"Content-Length", b"Record-Route: <sip:10.0.2.15>\r\nContent-Length")

    seen = ask(answer, local=BEHIND_NAT)
    assert len(seen.notes) == 1
    assert "Via 10.0.2.15:40000 came back as 198.51.100.9:40000" in seen.notes[0]
    assert "sip.private" not in seen.said


def test_our_own_contact_rewritten_to_another_private_address_is_no_leak() -> None:
    """A second router on our side, with an ALG, does this."""
    seen = saying("Contact: <sip:exposure-scan@192.168.1.5:40000>\r\n", local=BEHIND_NAT)
    assert len(seen.notes) == 1
    assert "our Contact 10.0.2.15 came back as 192.168.1.5" in seen.notes[0]
    assert "sip.private" not in seen.said


def test_seen_from_inside_private_addresses_are_at_home() -> None:
    seen = saying("Contact: <sip:192.168.7.9>\r\n", local=("192.168.7.2", 40000), address="192.168.7.9")
    assert (seen.service, seen.notes) == ("sip", ())
    assert "sip.private" not in seen.said


def test_a_router_that_forwards_and_rewrites_to_is_seen() -> None:
    """Its ALG put the inner address into To on the way in and did not take it out on the way back."""
    seen = ask(swap(b"To: <sip:198.51.100.10>", b"To: <sip:192.168.2.3>"))
    assert "our To 198.51.100.10 came back as 192.168.2.3" in seen.notes[0]
    assert seen.said["sip.private"] == "192.168.2.3 (To)"


def test_the_session_description_counts_where_it_is_one() -> None:
    sdp = "v=0\r\no=- 1 1 IN IP4 10.0.0.7\r\nc=IN IP4 10.0.0.8\r\n"

    def answer(kind: str) -> Callable[[bytes], bytes]:
        def make(request: bytes) -> bytes:
            length = f"Content-Type: {kind}\r\nContent-Length: {len(sdp)}".encode()
            return reply(request).replace(b"Content-Length: 0", length) + sdp.encode()

        return make

    for probe in ("sip-udp", "sip"):
        seen = ask(answer("application/sdp"), probe)
        assert seen.said["sip.private"] == "10.0.0.7 (SDP), 10.0.0.8 (SDP)"
        assert seen.notes[0].endswith("10.0.0.7 in its session description (SDP).")
        assert ask(answer("text/plain"), probe).notes == ()


# --- hostile text --------------------------------------------------------------------------------


def test_many_and_long_addresses_stay_few_notes() -> None:
    contacts = ", ".join(f"<sip:{'u' * 100}@10.0.{n // 250}.{n % 250}>" for n in range(2000))
    flood = "".join(f"X{n}\x1b[31m{'y' * 80}: sip:10.1.{n % 250}.1 {'sip:' * 100}\r\n" for n in range(100))
    seen = saying(f"Contact: {contacts}\r\n{flood}")
    assert len(seen.notes) == 5
    assert all(note.isprintable() and len(note) < 200 for note in seen.notes)


@given(via=st.text(max_size=80), sender=st.text(max_size=80), more=st.text(max_size=200))
def test_whatever_stands_in_the_fields_the_notes_are_safe_and_short(via: str, sender: str, more: str) -> None:
    def answer(request: bytes) -> bytes:
        whole = reply(request).replace(b"From: ", f"From: {sender} ".encode("utf-8", "replace"))
        whole = whole.replace(b";rport=40000", f";rport;{via}".encode("utf-8", "replace"))
        return whole.replace(b"Content-Length", f"Contact: {more}\r\nContent-Length".encode("utf-8", "replace"))

    seen = hold("sip-udp", phone(answer)).observation
    assert len(seen.notes) <= 10
    assert all(note.isprintable() and note.isascii() and len(note) < 700 for note in seen.notes)
