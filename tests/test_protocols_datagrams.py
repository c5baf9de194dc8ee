"""Questions in datagrams: what is sent is well formed, and only an answer to it is believed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import dns.flags
import dns.message
import dns.rcode
import pytest
from conversations import CALLER, TOKEN, Moment, Said, hold, snmp_answer

from exposure_scan.conversation import End

Answer = Callable[[bytes], bytes]


def peer(*answers: Answer, lost: int = 0) -> Callable[[Moment], Sequence[Said]]:
    """Answers each datagram with all of `answers`, after having lost the first `lost` of them."""
    seen = 0

    def speak(moment: Moment) -> Sequence[Said]:
        nonlocal seen
        if not moment.words:
            return []
        seen += 1
        return [answer(moment.words) for answer in answers] if seen > lost else []

    return speak


# --- synthetic answers, each written without the code under test ---------------------------------


def dns_answer(request: bytes, *, rcode: int = dns.rcode.NXDOMAIN, ra: bool = True) -> bytes:
    answer = dns.message.make_response(dns.message.from_wire(request), recursion_available=ra)
    answer.set_rcode(dns.rcode.Rcode(rcode))
    return answer.to_wire()


def ntp_answer(request: bytes) -> bytes:
    return b"\x24\x02" + bytes(22) + request[40:48] + bytes(16)


def tftp_answer(_: bytes) -> bytes:
    return b"\0\5\0\1File not found\0"


def ike_answer(request: bytes) -> bytes:
    message = request.removeprefix(bytes(4))
    marker = request[: len(request) - len(message)]
    return marker + message[:8] + b"responds" + b"\x0b\x10\x05\x00" + bytes(4) + struct.pack("!L", 32) + bytes(4)


def l2tp_answer(request: bytes) -> bytes:
    ours = request[-2:]  # the assigned tunnel id is the last value of our request
    body = b"\x80\x08\0\0\0\0\0\x02" + b"\x80\x08\0\0\0\x09\x12\x34"
    return struct.pack("!HH2sHHH", 0xC802, 12 + len(body), ours, 0, 0, 1) + body


def echo_answer(request: bytes) -> bytes:
    kind = {8: 0, 128: 129}[request[0]]
    return bytes((kind, 0)) + b"\0\0\xbe\xef" + request[6:]  # the id is another: a ping socket rewrites it


GOOD: dict[str, Answer] = {
    "dns": dns_answer,
    "ntp": ntp_answer,
    "tftp": tftp_answer,
    "snmp": snmp_answer,
    "ike": ike_answer,
    "ike-nat-t": ike_answer,
    "l2tp": l2tp_answer,
    "echo": echo_answer,
    "echo6": echo_answer,
}
SERVICE = {"ike-nat-t": "ike", "echo": None, "echo6": None}


@pytest.mark.parametrize("probe", GOOD)
def test_a_good_answer_is_recognised_at_once_and_after_loss(probe: str) -> None:
    for lost, waited in ((0, 0), (1, 0.3), (2, 1.0)):
        talk = hold(probe, peer(GOOD[probe], lost=lost))
        seen = talk.observation
        assert (seen.service, seen.answered, seen.valid) == (SERVICE.get(probe, probe), True, True)
        assert talk.waited == waited
        assert seen.notes == ()


@pytest.mark.parametrize("probe", GOOD)
def test_silence_is_three_tries_in_2_2_seconds(probe: str) -> None:
    talk = hold(probe)
    assert (len(talk.sent), len(set(talk.sent))) == (3, 1)
    assert talk.waited == pytest.approx(2.2)
    assert (talk.observation.service, talk.observation.answered, talk.observation.valid) == (
        None,
        False,
        False,
    )


@pytest.mark.parametrize("probe", GOOD)
def test_our_own_words_sent_back_are_no_answer(probe: str) -> None:
    seen = hold(probe, peer(lambda request: request)).observation
    assert (seen.service, seen.answered, seen.valid) == (None, True, False)
    assert len(seen.notes) == 1


@pytest.mark.parametrize("probe", [probe for probe in GOOD if probe != "tftp"])  # TFTP has nothing that ties
def test_an_answer_to_another_question_is_passed_over(probe: str) -> None:
    other = hold(probe, token="ff" * 8).sent[0]
    seen = hold(probe, peer(lambda _: GOOD[probe](other))).observation
    assert (seen.service, seen.answered, seen.valid) == (None, True, False)
    both = hold(probe, peer(lambda _: GOOD[probe](other), GOOD[probe])).observation
    assert both.valid


@pytest.mark.parametrize("probe", GOOD)
def test_every_shorter_answer_is_survived_and_an_icmp_error_ends_the_asking(probe: str) -> None:
    whole = GOOD[probe](hold(probe).sent[0])
    for size in range(len(whole)):
        assert hold(probe, peer(lambda _, size=size: whole[:size])).observation.answered  # type: ignore[misc]
    talk = hold(probe, lambda moment: [End.RESET] if moment.words else [])
    assert (len(talk.sent), talk.observation.answered) == (1, False)
    assert not hold(probe, connects=0).observation.answered


def test_dns_asks_for_a_name_that_cannot_exist_and_sees_whether_recursion_is_offered() -> None:
    talk = hold("dns", peer(dns_answer))
    asked = dns.message.from_wire(talk.sent[0])
    assert asked.question[0].name.to_text().endswith(".exposure-scan.invalid.")
    assert asked.flags & dns.flags.RD
    assert talk.observation.said == {"dns.rcode": "NXDOMAIN", "dns.ra": "1"}
    refused = hold("dns", peer(lambda request: dns_answer(request, rcode=5, ra=False)))
    assert refused.observation.said == {"dns.rcode": "REFUSED", "dns.ra": "0"}
    flagged = hold("dns", peer(lambda request: dns_answer(request, rcode=5, ra=True)))
    assert flagged.observation.said == {"dns.rcode": "REFUSED", "dns.ra": "0"}, "refused is not offered"
    assert flagged.observation.banner == "DNS REFUSED, recursion not offered"
    bare = hold("dns", peer(lambda request: request[:2] + b"\x80\x05" + bytes(8)))
    assert bare.observation.said == {"dns.rcode": "REFUSED", "dns.ra": "0"}


@pytest.mark.parametrize(
    ("probe", "forge"),
    [
        ("dns", lambda request: bytes((request[0] ^ 1,)) + dns_answer(request)[1:]),
        ("dns", lambda request: dns_answer(request)[:13] + b"z" + dns_answer(request)[14:]),
        ("ntp", lambda request: b"\x23" + ntp_answer(request)[1:]),
        ("ntp", lambda request: ntp_answer(request)[:24] + b"x" + ntp_answer(request)[25:]),
        ("snmp", lambda request: snmp_answer(request).replace(b"\xa8", b"\xa0")),
        ("ike", lambda request: b"x" + ike_answer(request)[1:]),
        ("l2tp", lambda request: l2tp_answer(request)[:4] + b"\0\0" + l2tp_answer(request)[6:]),
        ("echo", lambda request: echo_answer(request)[:-1]),
    ],
)
def test_one_wrong_mark_is_enough_to_be_passed_over(probe: str, forge: Answer) -> None:
    seen = hold(probe, peer(forge)).observation
    assert (seen.service, seen.answered, seen.valid) == (None, True, False)


def test_snmp_tells_the_engine_and_its_maker_without_a_community() -> None:
    talk = hold("snmp", peer(snmp_answer))
    assert talk.observation.said == {"snmp.engine-id": "80009674046c6162", "snmp.enterprise": "38516"}
    assert talk.sent[0].startswith(b"\x30")
    assert b"public" not in talk.sent[0]
    tail = talk.sent[0][talk.sent[0].index(b"\xa0") :]
    assert tail.endswith(b"\x02\x01\x00\x02\x01\x00\x30\x00"), "no variable is asked for"


def test_tftp_names_the_product_and_reads_the_refusal() -> None:
    talk = hold("tftp", peer(tftp_answer))
    assert talk.sent[0].startswith(b"\0\1exposure-scan-")
    assert talk.sent[0].endswith(b"\0octet\0")
    assert talk.observation.banner == "TFTP error 1: File not found"


def test_ike_opens_main_mode_and_on_4500_behind_the_marker() -> None:
    plain, marked = (hold(probe).sent[0] for probe in ("ike", "ike-nat-t"))
    assert marked == bytes(4) + plain
    assert struct.unpack_from("!8sBBBBLL", plain, 8) == (bytes(8), 1, 0x10, 2, 0, 0, len(plain))


def test_ike_says_who_asks_in_a_vendor_id() -> None:
    message = hold("ike").sent[0]
    following, size = message[28], int.from_bytes(message[30:32])  # of the first payload, the offer
    vendor = message[28 + size :]
    assert (following, vendor[0], int.from_bytes(vendor[2:4])) == (13, 0, len(vendor))
    assert vendor[4:].decode() == CALLER.agent


def test_l2tp_closes_what_it_was_granted() -> None:
    talk = hold("l2tp", peer(l2tp_answer))
    request, goodbye = talk.sent
    assert struct.unpack_from("!HHH", request) == (0xC802, len(request), 0)
    assert struct.unpack_from("!HHHHHH", goodbye) == (0xC802, len(goodbye), 0x1234, 0, 1, 1)
    assert goodbye[12:20] == b"\x80\x08\0\0\0\0\0\x04", "StopCCN"


@pytest.mark.parametrize(("probe", "kind"), [("echo", 8), ("echo6", 128)])
def test_ping_names_the_product_and_has_a_right_checksum(probe: str, kind: int) -> None:
    request = hold(probe).sent[0]
    assert request[:2] == bytes((kind, 0))
    assert request[8:].startswith(b"exposure-scan ")
    assert len(request) >= 8 + 16
    total = sum(struct.unpack(f"!{len(request) // 2}H", request))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF if probe == "echo" else request[2:4] == b"\0\0"


def test_2088_gets_empty_datagrams_and_any_answer_counts() -> None:
    silent = hold("empty")
    assert (silent.sent, silent.observation.answered) == ([b""] * 3, False)
    for data in (b"", b"\x01\x02"):
        seen = hold("empty", lambda moment, data=data: [data] if moment.words == b"" else []).observation  # type: ignore[misc]
        assert (seen.service, seen.answered, seen.valid) == (None, True, False)


def test_the_same_token_gives_the_same_bytes_and_another_others() -> None:
    for probe in GOOD:
        assert hold(probe, token=TOKEN).sent == hold(probe, token=TOKEN).sent
        assert hold(probe, token=TOKEN).sent[0] != hold(probe, token="ff" * 8).sent[0]
