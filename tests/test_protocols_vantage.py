"""The vantage check's words: who holds the key proves it for this port and this question, and nobody else can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

import pytest
from conversations import CALLER, PEER, TOKEN, Moment, Said, Talk, hold, silent
from hypothesis import given
from hypothesis import strategies as st

from exposure_scan.conversation import End, Exchange, Observation
from exposure_scan.model import PortState, Question
from exposure_scan.protocols.vantage import HELLO, answer, seen_as

KEY, OTHER = b"synthetic-key-of-the-tests", b"another-synthetic-key-entirely"
WE = ("198.51.100.250", 40000)
HOLDER = replace(CALLER, secret=KEY)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
GREETING = b"220 mail.synthetic.invalid ESMTP\r\n"

Transport = Literal["tcp", "udp"]
BOTH = pytest.mark.parametrize("transport", ["tcp", "udp"])


def talk(transport: Transport, react: Callable[[bytes], Sequence[Said]]) -> Talk:
    def peer(moment: Moment) -> Sequence[Said]:
        return react(moment.words) if moment.words else ()

    return hold(f"vantage-{transport}", peer, caller=HOLDER)


def hello(transport: Transport, *, token: str = TOKEN, port: int = 25) -> bytes:
    return hold(f"vantage-{transport}", silent, caller=HOLDER, token=token, port=port).sent[0]


def proof(data: bytes, port: str, *, key: bytes = KEY, source: tuple[str, int] = WE) -> bytes:
    made = answer(key, data, port, source)
    assert made is not None
    return made


@BOTH
def test_the_holder_of_the_key_proves_it_and_says_where_we_come_from(transport: Transport) -> None:
    seen = talk(transport, lambda data: [proof(data, f"{transport}/25")])
    assert seen.observation == Observation("vantage", "seen as 198.51.100.250|40000", answered=True, valid=True)
    assert seen_as(seen.observation) == "198.51.100.250|40000"
    (said,) = seen.sent
    assert said.startswith(f"exposure-scan-vantage/1 hello {transport}/25 ".encode())
    assert said.endswith(b"\n")
    assert len(said) == HELLO


@BOTH
@pytest.mark.parametrize(
    "forgery",
    [
        pytest.param(lambda data, port: proof(data, port)[:-2] + b"0\n", id="another MAC"),
        pytest.param(lambda data, port: proof(data, port).replace(b".250|", b".251|"), id="another source"),
        pytest.param(lambda data, port: proof(data, port).replace(b"|40000", b"|40001"), id="another source port"),
        pytest.param(lambda data, port: proof(data, port) + b"x\n", id="more words behind"),
        pytest.param(lambda data, port: b"\n" + proof(data, port), id="a line before"),
        pytest.param(lambda data, port: proof(hello(port[:3], port=80), f"{port[:3]}/80"), id="of another port"),
        pytest.param(lambda data, port: proof(hello(port[:3], token="00" * 8), port), id="of another question"),
        pytest.param(lambda data, port: data, id="our own words"),
        pytest.param(lambda data, port: data.replace(b"hello", b"seen"), id="our own words, turned round"),
        pytest.param(lambda data, port: GREETING, id="a greeting"),
        pytest.param(lambda data, port: b"\xff\xfe\r\n", id="noise"),
    ],
)
def test_whoever_else_answers_proves_nothing(transport: Transport, forgery: Callable[[bytes, str], bytes]) -> None:
    seen = talk(transport, lambda data: [forgery(data, f"{transport}/25")])
    assert (seen.observation.answered, seen.observation.valid) == (True, False)
    assert (seen.observation.service, seen_as(seen.observation)) == (None, None)


def test_what_somebody_else_said_is_kept() -> None:
    assert talk("tcp", lambda _: [GREETING]).observation.banner == "220 mail.synthetic.invalid ESMTP"
    assert hold("vantage-tcp", lambda moment: [GREETING], caller=HOLDER).observation.answered, "it speaks first"


@BOTH
def test_silence_is_no_answer_and_is_waited_for_shortly(transport: Transport) -> None:
    seen = talk(transport, lambda _: [])
    assert seen.observation == Observation()
    assert seen.waited <= 5
    assert len(set(seen.sent)) == 1, "a repeated datagram is the same one"
    assert len(seen.sent) == (1 if transport == "tcp" else 4)


@BOTH
@pytest.mark.parametrize("end", [End.CLOSED, End.RESET])
def test_an_end_is_no_answer(transport: Transport, end: End) -> None:
    assert talk(transport, lambda _: [end]).observation == Observation()


def test_no_connection_is_no_answer() -> None:
    assert hold("vantage-tcp", connects=0, caller=HOLDER).observation == Observation()


def test_a_forged_datagram_before_the_true_one_hides_nothing() -> None:
    seen = talk("udp", lambda data: [GREETING, proof(data, "udp/25")])
    assert seen.observation.valid


def test_a_lost_datagram_is_asked_again() -> None:
    asked: list[bytes] = []

    def lossy(data: bytes) -> Sequence[Said]:
        asked.append(data)
        return [proof(data, "udp/25")] if len(asked) == 3 else []

    assert talk("udp", lossy).observation.valid


@BOTH
def test_the_key_is_never_said_and_never_kept(transport: Transport) -> None:
    seen = talk(transport, lambda data: [proof(data, f"{transport}/25")])
    exchange = Exchange(
        Question(transport, 25, f"vantage-{transport}"),
        PortState.OPEN,
        "udp-reply" if transport == "udp" else "syn-ack",
        PEER,
        1,
        None,
        seen.observation,
        NOON,
        tuple(seen.events),
    )
    kept = exchange.evidence("e1", PEER, TOKEN).model_dump_json() + repr(HOLDER)
    assert KEY.decode() not in kept
    assert KEY.hex() not in kept
    assert "exposure-scan-vantage/1 hello" in kept, "what was said is"


# --- the other side -------------------------------------------------------------------------------


@given(st.binary(max_size=2 * HELLO))
def test_words_of_nobody_are_not_answered(words: bytes) -> None:
    assert answer(KEY, words, "udp/25", WE) is None
    assert answer(KEY, words.ljust(HELLO, b" ")[:HELLO], "udp/25", WE) is None


@given(at=st.integers(0, HELLO - 1), byte=st.integers(0, 255))
def test_one_changed_byte_is_not_answered(at: int, byte: int) -> None:
    whole = hello("udp")
    changed = whole[:at] + bytes([byte]) + whole[at + 1 :]
    assert (answer(KEY, changed, "udp/25", WE) is None) == (changed != whole)


@BOTH
def test_a_hello_counts_for_its_own_port_and_key_only(transport: Transport) -> None:
    data = hello(transport)
    assert answer(KEY, data, f"{transport}/25", WE) is not None
    assert answer(OTHER, data, f"{transport}/25", WE) is None
    assert answer(KEY, data, f"{transport}/26", WE) is None
    assert answer(KEY, data, "tcp/25" if transport == "udp" else "udp/25", WE) is None
    assert answer(KEY, data[:-1], f"{transport}/25", WE) is None
    assert answer(KEY, data + b"\n", f"{transport}/25", WE) is None


@given(st.ip_addresses(), st.integers(0, 65535))
def test_an_answer_is_never_longer_than_its_question(source: object, port: int) -> None:
    assert len(proof(hello("udp", port=65535), "udp/65535", source=(str(source), port))) <= HELLO
