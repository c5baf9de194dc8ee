"""For any order of admissions, ends, and hands on the clock: no socket outside consent, and none refused within it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import peers
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from exposure_scan.model import Target
from exposure_scan.transport import Gate, NotAuthorized

ADDRESSES = (peers.HOST, peers.HOST6, "198.51.100.222", "::ffff:198.18.77.10")
MINUTES = st.integers(0, 180)
WHO = st.sampled_from(ADDRESSES)


class Attack(RuleBasedStateMachine):
    """An adversary with the clock and the sites file, against what a person who was there would say.

    True time is what passed since the gate was made; the clock of the machine shows what it was set to.
    """

    tried = 0

    @initialize()
    def begin(self) -> None:
        self.passed = 0.0  # seconds, which nobody can set
        self.set_to = peers.NOON  # what the clock showed when it was last set,
        self.set_at = 0.0  # and when that was
        self.highest = timedelta(0)  # how far the clock was ahead of the true time at most, when the gate looked
        self.until: dict[str, datetime] = {}  # of what was admitted
        self.stopped = False
        self.opened = 0
        self.runner = asyncio.Runner()
        self.gate = Gate(clock=self.wall, steady=lambda: 500.0 + self.passed)

    def wall(self) -> datetime:
        return self.set_to + timedelta(seconds=self.passed - self.set_at)

    @property
    def true(self) -> datetime:
        return peers.NOON + timedelta(seconds=self.passed)

    def target(self, address: str, minutes: float | None) -> Target:
        """The address with a consent that ends so many minutes after the scan began."""
        return peers.target(address, hours=None if minutes is None else minutes / 60)

    def lives(self, address: str) -> bool | None:
        """Whether a packet may go there; None where the clock that was set forward decides, which is believed."""
        until = self.until.get(address)
        if until is None or self.stopped or self.true >= until:
            return False
        return True if self.true + self.highest < until and self.wall() < until else None

    # --- what happens ----------------------------------------------------------------------------

    @rule(minutes=st.floats(0, 90))
    def time_passes(self, minutes: float) -> None:
        self.passed += minutes * 60

    @rule(minutes=st.integers(-3_000_000, 600))
    def somebody_sets_the_clock(self, minutes: int) -> None:
        self.set_to, self.set_at = self.wall() + timedelta(minutes=minutes), self.passed

    @rule(address=WHO, minutes=st.one_of(st.none(), MINUTES))
    def is_admitted(self, address: str, minutes: float | None) -> None:
        whom = self.target(address, minutes)
        until = whom.authorization.until or datetime.max.replace(tzinfo=peers.NOON.tzinfo)
        self._look()
        try:
            self.gate.admit(whom)
        except NotAuthorized:
            assert until <= max(self.true + self.highest, self.wall())
        else:
            assert self.true < until
            self.until[address] = until

    @rule(address=WHO, kind=st.sampled_from(["tcp", "udp", "icmp", "pace", "turn"]))
    def is_asked(self, address: str, kind: str) -> None:
        may = self.lives(address)
        self._look()
        type(self).tried += 1
        sent = self._ask(self.target(address, 10_000), kind)  # whoever asks claims a consent of his own
        assert sent is may or may is None

    @rule()
    def is_stopped(self) -> None:
        if self.opened:  # or nothing more could be learnt
            self.gate.stop()
            self.stopped = True

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.close()

    def _look(self) -> None:
        self.highest = max(self.highest, self.wall() - self.true)

    def _ask(self, whom: Target, kind: str) -> bool:
        before = self.opened

        async def ask() -> None:
            if kind == "turn":
                self.gate.turn(whom, 0.0)
            elif kind == "pace":
                await self.gate.pace(whom)
            elif kind == "icmp":
                self._close(await self.gate.icmp(whom))
            else:
                self._close(await getattr(self.gate, kind)(whom, 9))

        try:
            self.runner.run(ask())
        except NotAuthorized:
            assert self.opened == before, "a socket was opened before the consent was looked at"
            return False
        except OSError:  # the kernel's answer to a connect: the gate let it go
            pass
        return True

    @staticmethod
    def _close(sock: socket.socket | None) -> None:
        if sock is not None:
            sock.close()


@pytest.fixture(autouse=True)
def addresses() -> None:
    peers.own_addresses()


def test_no_socket_is_opened_outside_consent_whatever_happens(
    monkeypatch: pytest.MonkeyPatch, figure: Callable[[str, int], None]
) -> None:
    machines: list[Attack] = []

    def made() -> Attack:
        machines.append(Attack())
        return machines[-1]

    opens = Gate._open

    def opening(self: Gate, held: Any, family: int, kind: int, protocol: int = 0) -> Any:
        machines[-1].opened += 1
        return opens(self, held, family, kind, protocol)

    monkeypatch.setattr(Gate, "_open", opening)
    attacks = settings(max_examples=150, stateful_step_count=40, deadline=None)
    run_state_machine_as_test(made, settings=attacks)  # type: ignore[arg-type]  # it calls what it is given
    figure("gate: questions in any order of admissions, ends and clocks", Attack.tried)
    assert Attack.tried
