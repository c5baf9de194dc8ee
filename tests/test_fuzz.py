"""Everything that reads what others wrote, fed with damage: nothing comes out but what its table row declares.

Short and the same in every run; `make fuzz` goes on looking for as long as it is let.
"""

from __future__ import annotations

import signal
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from random import Random
from types import FrameType

import pytest
from conversations import CALLER, DATAGRAMS, MOST_ASKED, MOST_HEARD, Moment, Said, hold
from fuzz_scripts import Script, events_read, events_written, script_of
from fuzz_seeds import certificates, recipes, recorded
from fuzz_targets import CORPUS, HARMLESS, TARGETS, Target
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from exposure_scan.conversation import End, Event
from exposure_scan.model import Problem
from exposure_scan.protocols import PROBES, conversation

# Inputs of each target in a run: those of a group take about the same time.
INPUTS = {"conversations": 1000, "what passes the wire": 700, "captures": 400, "files": 300, "saved scans": 90}
PATIENCE = 30  # seconds for one input, which takes hundredths: only what hangs comes to its end

every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
Figure = Callable[[str, int], None]


class Hangs(BaseException):
    """It has not come to an end. No handler of the product's catches it."""


@contextmanager
def ended() -> Iterator[None]:
    """The block comes to an end, or is ended."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@every_target
def test_damage_gives_a_value_or_a_declared_exception(target: Target, figure: Figure) -> None:
    seeds = target.seeds()

    @settings(
        max_examples=INPUTS[target.group],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(seed=st.integers(0, 2**64 - 1))  # more various than `st.randoms`
    def feed(seed: int) -> None:
        data = target.damage(Random(seed), seeds)
        note(f"put into {CORPUS.name}/{target.name}/: {b64encode(data).decode()}")
        with ended():
            target.read(data)
        figure(f"fuzz: inputs tried, {target.group}", 1)
        figure("fuzz: inputs tried", 1)

    feed()


@every_target
def test_what_is_not_damaged_is_read(target: Target) -> None:
    """The seeds lead to where the damage matters: each is read, or declared unreadable for what it is."""
    seeds = target.seeds()
    for seed in seeds:
        target.read(seed)
    if target.group in ("files", "saved scans"):
        for seed in seeds:
            target.run(seed)


@pytest.mark.parametrize(
    ("target", "path"),
    [(target, path) for target in TARGETS.values() for path in target.kept()],
    ids=lambda value: value.name,
)
def test_what_was_found_once_stays_mended(target: Target, path: object, figure: Figure) -> None:
    data = next(kept for kept in target.kept() if kept == path).read_bytes()
    with ended():
        target.read(data)
    figure("fuzz: inputs of the corpus", 1)


def test_each_file_of_the_corpus_is_of_a_target_and_every_conversation_is_one() -> None:
    folders = {path.name for path in CORPUS.iterdir() if path.is_dir()}
    assert folders <= set(TARGETS)
    assert folders
    assert {f"says-{probe}" for probe in PROBES} <= set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.glob("*/*")) < 600_000


def test_what_is_not_declared_is_not_swallowed() -> None:
    def fails(_: bytes) -> None:
        raise IndexError

    with pytest.raises(IndexError):
        Target("x", "files", fails, lambda: (b"",), (Problem, ValueError)).read(b"")


def test_what_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.PATIENCE", 1)
    with pytest.raises(Hangs), ended():
        signal.pause()


# --- the scripts ----------------------------------------------------------------------------------------


def test_a_recorded_peer_as_a_script_says_the_same_again() -> None:
    for name, recipe in recipes().items():
        asked = recipe.question
        script = Script.read(script_of(recipe.events).written())
        _, peer = next(event.detail for event in recipe.events if event.detail).split(" ")
        host, _, port = peer.partition("|")
        talk = hold(
            asked.probe, script.peer(), tls=script.handshake(certificates()[0]), address=host, port=int(port),
            local=("2001:db8::250" if ":" in host else "198.51.100.250", 40000), token=asked.token,
        )  # fmt: skip
        assert (talk.observation.service, talk.observation.valid) == (recipe.outcome.service, recipe.outcome.valid), (
            name
        )


def test_events_are_read_as_they_are_written() -> None:
    for _, events in recorded():
        again = events_read(events_written(events))
        assert [(e.what, e.data) for e in again] == [(e.what, e.data) for e in events]


@given(st.binary(max_size=100))
def test_any_bytes_are_a_script_and_events(data: bytes) -> None:
    script = Script.read(data)
    assert Script.read(script.written()) == script
    assert all(isinstance(event, Event) for event in events_read(data))


# --- the bounds that `hold` sees to, with peers that never end -------------------------------------------

ENDLESS = (
    b"220-x\r\n", b"250-x\r\n", b"* OK x\r\n", b"* x\r\n", b"+OK x\r\nx\r\n", b"HTTP/1.1 200 OK\r\n", b"x: y\r\n",
    b"SIP/2.0 200 OK\r\n", b"SIP/2.0 100 Trying\r\n\r\n", b"OPTIONS sip:a SIP/2.0\r\n\r\n", b"\xff\xfd\x01", b"A",
    b"\0", b"\r\n", b"SSH-2.0-x", b"\xff",
)  # fmt: skip
FIRST = (b"", b"220 x ESMTP\r\n", b"* OK x\r\n", b"+OK x\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"SIP/2.0 200 OK\r\n")


@pytest.mark.parametrize("probe", sorted(PROBES - DATAGRAMS))
def test_a_peer_that_never_ends_is_heard_within_the_limits(probe: str, figure: Figure) -> None:
    most = 0
    for first, piece, tls in product(FIRST, ENDLESS, (0, 2)):
        endless = Script([[first, piece * (1 + (1 << 20) // len(piece))]], tls, endless=True)
        most = max(most, hold(probe, endless.peer(), tls=endless.handshake(certificates()[0])).heard)
        figure("fuzz: endless streams", 1)
    assert 0 < most <= MOST_HEARD


@pytest.mark.parametrize("probe", sorted(DATAGRAMS))
def test_a_flood_of_datagrams_is_passed_over(probe: str) -> None:
    flood: list[Said] = [b"\x01" + b"x" * 1000] * 2000
    talk = hold(probe, lambda _: [*flood, b"x" * MOST_ASKED])
    assert talk.observation.answered
    assert talk.observation.valid is False


@pytest.mark.parametrize("probe", sorted(PROBES))
@given(noise=st.binary(min_size=1, max_size=200))
def test_noise_is_never_a_service_that_was_spoken_to_the_letter(probe: str, noise: bytes) -> None:
    if probe == "tftp" and noise[:2] in (b"\0\3", b"\0\5"):
        return  # nothing in TFTP ties an answer to its request
    seen = hold(probe, lambda moment: [b"\x01" + noise]).observation
    assert (seen.service, seen.valid) == (None, False)


def test_the_words_are_really_looked_at() -> None:
    def eager(moment: Moment) -> Sequence[Said]:
        if moment.words.startswith(b"EHLO"):
            return [b"250-x\r\n250-AUTH LOGIN PLAIN\r\n250-VRFY\r\n250 STARTTLS\r\n"]
        return [b"220 x ESMTP\r\n"]

    talk = hold("greeting", eager)
    assert {words.split()[0] for words in talk.sent} == {b"EHLO", b"STARTTLS", b"QUIT"}
    assert all(HARMLESS.fullmatch(words) for words in talk.sent)
    forbidden = (b"AUTH LOGIN\r\n", b"VRFY root\r\n", b"GET /admin HTTP/1.1\r\n\r\n", b"QUIT\r\nQUIT\r\n")
    assert not any(HARMLESS.fullmatch(words) for words in forbidden)


def test_an_unknown_probe_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        conversation("finger", "00", CALLER)


def test_how_a_connection_ends_is_no_word() -> None:
    for end, probe in product((End.CLOSED, End.RESET), sorted(PROBES)):
        assert not hold(probe, Script([[end]], endless=True).peer()).observation.answered
