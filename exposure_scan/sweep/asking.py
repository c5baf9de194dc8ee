"""All that is asked of one target, and when: the plan, again where tries were too few, and the last look.

A first answer ends a question. A wide sweep of other ports comes after the plan, and what it finds open is
asked like the rest. Silence is asked again until a mere miss is less likely than one in a
thousand on this path, or until the patience ends; what was never settled is said to be unmeasured.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from exposure_scan import plan, protocols
from exposure_scan.conversation import Caller, Conversation, Exchange, Observation, replay
from exposure_scan.model import Echo, PortState, Problem, Purpose, Question, Target, Vantage
from exposure_scan.transport import UNHEARD, Engine, Gate, Lateness, converse

from .hosts import FIRST_HOP_PORT, HELPER, SURE, is_silent, is_wordless, loss_of, miss_of, one_helped
from .knocks import MOST_ASKED_ON, Knocks, knocks
from .wide import Wide

log = logging.getLogger("exposure_scan")

_ROUNDS = 4  # of asking again, at most
_FEW_SAMPLES = 20  # tries that a loss is measured on, at least, where anything answers
_HELPER_ROUNDS = 2  # more for the other port where one of a VoIP helper's two shows
_SPOILED = 0.5  # seconds of our own lag after which a silence is not believed
_QUIET = 0.9  # seconds without any answer after which the way is looked at
_COARSE = range(1, 25, 3)  # hops that are looked at first; then the two behind the last that answers
_SWIFT = frozenset({"ask", "again", "path"})  # purposes of questions that the engine may ask: each port once
_ASKED_AT_ONCE = 64  # of the ports that a sweep found open


@dataclass(frozen=True, slots=True)
class Told:
    """A question as it was asked: why, with which token, and what came."""

    purpose: Purpose
    token: str
    exchange: Exchange


@dataclass
class Asking:
    """One target's questions. `told` grows as they are answered."""

    gate: Gate
    swift: Engine
    late: Lateness  # while this scan was under way
    target: Target
    vantage: Vantage
    caller: Caller
    answered: Callable[[int], None]  # told of so many more questions of the plan, or knocks, that are done
    believed: bool = False  # a person says that the site is there, so that silence may count
    told: list[Told] = field(default_factory=list)
    _by_question: dict[str, list[Exchange]] = field(default_factory=dict)
    _heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, questions: Sequence[Question], swept: Sequence[int] = ()) -> list[Told]:
        """Ask everything and return it, the plan's questions first, in their order.

        Args:
            questions: the plan's.
            swept: TCP ports to knock at besides; what is open there is asked what it is.

        Raises:
            Problem: the consent is missing, or ended meanwhile.
        """
        way = asyncio.create_task(self._look_at_the_way())
        try:
            await self._all(questions, "ask", tell=True)
            await asyncio.gather(self._again(questions), self._patiently(questions))
            moved = await self._sweep(swept) if swept else []
            await self._last_look()
            await way
        finally:
            way.cancel()
            await asyncio.gather(way, return_exceptions=True)
        place = {question: number for number, question in enumerate((*questions, *moved))}
        return sorted(self.told, key=lambda told: (told.purpose != "ask", place.get(told.exchange.question, 0)))

    # --- one question ----------------------------------------------------------------------------

    async def _all(self, questions: Iterable[Question], purpose: Purpose, *, tell: bool = False) -> None:
        """Ask all at once: over the engine first, and by a socket of its own what it leaves."""
        swift = [question for question in questions if purpose in _SWIFT and self._is_swift(question)]
        tokens = [secrets.token_hex(8) for _ in swift]
        tasks: list[asyncio.Task[object]] = [
            asyncio.create_task(self._ask(question, purpose, tell=tell))
            for question in questions
            if purpose not in _SWIFT or not self._is_swift(question)
        ]

        def told(number: int, exchange: Exchange | None) -> None:
            question = swift[number]
            if exchange is not None and exchange.reason == UNHEARD:
                self._keep(Told("unheard", tokens[number], exchange))
                exchange = None
            if exchange is None:
                tasks.append(asyncio.create_task(self._ask(question, purpose, tell=tell)))
            elif question.transport == "tcp" and exchange.state is PortState.OPEN:
                tasks.append(asyncio.create_task(self._ask_on(exchange, purpose, tell=tell)))
            else:
                self._keep(Told(purpose, tokens[number], exchange), tell=tell)

        try:
            await self.swift.ask(
                self.target, swift, lambda number: self._conversation(swift[number], tokens[number]), told
            )
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _is_swift(self, question: Question) -> bool:
        return question.transport != "icmp" and self._blind_spot(str(question)) is None

    async def _ask_on(self, opened: Exchange, purpose: Purpose, *, tell: bool) -> None:
        """Ask a port that has just accepted a connection what it is."""
        question, token = opened.question, secrets.token_hex(8)
        exchange = await self._converse(question, token)
        if exchange.state is PortState.OPEN:
            exchange = _joined(opened, exchange)
        else:  # it accepted one connection, and not the next: both count
            first = replay(self._conversation(question, token), opened.events, datagrams=False)
            self._keep(Told(purpose, token, replace(opened, observation=first)))
            await self._ask(question, "again")
        self._keep(Told(purpose, token, exchange), tell=tell)

    async def _ask(self, question: Question, purpose: Purpose, *, tell: bool = False) -> Exchange:
        token = secrets.token_hex(8)
        exchange = self._not_from_here(question) or await self._converse(question, token)
        self._keep(Told(purpose, token, exchange), tell=tell)
        return exchange

    def _keep(self, told: Told, *, tell: bool = False) -> None:
        self.told.append(told)
        if told.purpose not in ("loss", "unheard"):
            self._by_question.setdefault(str(told.exchange.question), []).append(told.exchange)
        if told.exchange.by == str(self.target):
            self._heard.set()
        if tell:
            self.answered(1)

    def _conversation(self, question: Question, token: str) -> Conversation:
        return protocols.conversation(question.probe, token, self.caller)

    def _not_from_here(self, question: Question) -> Exchange | None:
        """A port that this network cannot ask: whatever came, it would be no word of the host."""
        reason = self._blind_spot(str(question))
        return self._unmeasured(question, reason) if reason else None

    def _blind_spot(self, key: str) -> str | None:
        """Why this port cannot be asked from this network; None where it can."""
        if key in self.vantage.blind:
            return "vantage-blind"
        return "vantage-forged" if key in self.vantage.forged else None

    async def _converse(self, question: Question, token: str) -> Exchange:
        """Ask. A fault of ours makes that port unmeasured and nothing else."""
        try:
            return await converse(self.gate, self.target, question, self._conversation(question, token))
        except Problem:
            raise
        except Exception as error:  # the one spot where a fault of ours becomes a port's state
            log.exception("%s %s: a fault in exposure-scan; it is reported as unmeasured", self.target, question)
            return self._unmeasured(question, f"our-error: {type(error).__name__}")

    def _unmeasured(self, question: Question, reason: str) -> Exchange:
        state = Echo.UNMEASURED if question.transport == "icmp" else PortState.UNMEASURED
        return Exchange(question, state, reason, None, 0, None, Observation(), self.gate.now(), ())

    # --- rounds ----------------------------------------------------------------------------------

    async def _again(self, questions: Sequence[Question]) -> None:
        """Ask again what was silent with too few tries for this path, or while we were late ourselves."""
        spoiled = self.late.worst > _SPOILED
        faults = [q for q in questions if self._reason(q).startswith(("local-error", "our-error"))]
        for number in range(_ROUNDS):
            samples = self._loss()[1]
            if 0 < samples < _FEW_SAMPLES and number == 0:
                await self._measure_loss(_FEW_SAMPLES - samples)
            miss = miss_of(*self._loss())
            todo = [q for q in questions if self._silent(q) and (spoiled or miss ** self._tries(q) > SURE)]
            if number == 0:
                todo += faults
            if number < _HELPER_ROUNDS and one_helped({str(q) for q in questions if self._wordless(q)}):
                todo += [q for q in questions if str(q) in HELPER and self._silent(q) and q not in todo]
            if not todo:
                return
            spoiled = False
            await self._all(todo, "again")

    async def _patiently(self, questions: Sequence[Question]) -> None:
        """Where silence may count, give SIP the seconds that a server may need to look up our name."""
        if self._heard.is_set() or self.believed:
            silent = [q for q in questions if q.probe == "sip-udp" and self._silent(q)]
            await self._all((replace(q, probe="sip-udp-patient") for q in silent), "again")

    def _of(self, question: Question) -> list[Exchange]:
        """What came of the question so far; what was asked to measure loss tells nothing of it."""
        return self._by_question.get(str(question), [])

    def _silent(self, question: Question) -> bool:
        return all(map(is_silent, self._of(question)))

    def _wordless(self, question: Question) -> bool:
        return any(map(is_wordless, self._of(question)))

    def _reason(self, question: Question) -> str:
        return self._of(question)[-1].reason

    def _tries(self, question: Question) -> int:
        return sum(exchange.tries for exchange in self._of(question))

    def _answers(self) -> list[Exchange]:
        """What the address itself said of one question; the sweep's loss is no measure, for it was tried less."""
        answered = (told for told in self.told if told.exchange.by == str(self.target))
        return [told.exchange for told in answered if told.purpose not in ("path", "sweep")]

    def _loss(self) -> tuple[float | None, int]:
        return loss_of(self._answers())

    async def _measure_loss(self, wanted: int) -> None:
        """A few more tries at what answers, the cheapest first: few answers show no loss."""
        answers = self._answers()
        echo = [exchange for exchange in answers if exchange.question.transport == "icmp"]
        udp = [exchange for exchange in answers if exchange.reason == "udp-reply"]
        tcp = [exchange for exchange in answers if exchange.question.transport == "tcp"]
        for exchange in (*echo[:1], *udp[:1], *tcp[:1])[:1]:
            question = exchange.question
            if question.transport == "tcp":
                question = replace(question, probe="silent")
            await self._all([question] * wanted, "loss")

    # --- the wide sweep --------------------------------------------------------------------------

    async def _sweep(self, ports: Sequence[int]) -> list[Question]:
        """Knock at the ports, ask the open ones what they are, and return those questions."""
        token = secrets.token_hex(8)
        reasons = {port: reason for port in ports if (reason := self._blind_spot(f"tcp/{port}"))}
        wide = Wide(self.gate, self.target, self._is_there, self.answered)
        rows = await wide.run([port for port in ports if port not in reasons], token)
        for reason in dict.fromkeys(reasons.values()):
            blind = (port for port in reasons if reasons[port] == reason)
            rows.append(knocks(PortState.UNMEASURED, reason, None, 0, self.gate.now(), blind))
        self.answered(len(reasons))
        self.told += [Told("sweep", token, row) for row in rows]
        moved = [plan.moved(port) for port in sorted(list(wide.opened)[:MOST_ASKED_ON])]
        places = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def ask(question: Question) -> None:
            async with places:
                if (await self._ask(question, "ask")).state is not PortState.OPEN:
                    await self._ask(question, "again")

        await asyncio.gather(*map(ask, moved))
        return moved

    # --- the way, and the end --------------------------------------------------------------------

    async def _look_at_the_way(self) -> None:
        """Of a host that says nothing, find the last router that does."""
        try:
            async with asyncio.timeout(_QUIET):
                await self._heard.wait()
        except TimeoutError:
            await self._all(map(_hop, _COARSE), "path")
            found = [told.exchange.question for told in self.told if told.purpose == "path" and told.exchange.by]
            last = max((question.ttl or 0 for question in found), default=0)
            await self._all((_hop(ttl) for ttl in (last + 1, last + 2) if last), "path")

    async def _last_look(self) -> None:
        """Ask what answered first once more: who has begun to block us makes every later silence worthless."""
        if any(is_silent(told.exchange) for told in self.told if told.purpose != "path"):
            await self._is_there(self._knocked())

    async def _is_there(self, knocked: int | None = None) -> bool:
        """Whether what answered first still does; `knocked` is a port to ask where only a knock was answered.

        Where nothing ever answered there is nobody who could have gone.
        """
        first = self._first_answer()
        if first is None and knocked is not None:
            first = Question("tcp", knocked, "silent")
        if first is None:
            return True
        miss = miss_of(*self._loss())
        tries = 0
        for number in range(_ROUNDS):  # twice at least: to say that somebody blocks us is no small thing
            exchange = await self._ask(first, "still-there")
            tries += exchange.tries
            if exchange.by == str(self.target):
                return True
            if number and is_silent(exchange) and miss**tries < SURE:
                break
        return False

    def _knocked(self) -> int | None:
        """A port of the sweep that the address itself answered for, if there is one."""
        rows = (told.exchange for told in self.told if isinstance(told.exchange, Knocks))
        return next((row.ports[0] for row in rows if row.by == str(self.target)), None)

    def _first_answer(self) -> Question | None:
        """The earliest open port, else the earliest that refused, else ping. ICMP errors may be rationed."""
        kinds = ("syn-ack", "udp-reply"), ("rst",), ("echo-reply",)
        for reasons in kinds:
            answers = [exchange for exchange in self._answers() if exchange.reason in reasons]
            if answers:
                return min(answers, key=_when).question
        return None


def _hop(ttl: int) -> Question:
    return Question("udp", FIRST_HOP_PORT + ttl - 1, "hop", "the way", ttl=ttl)


def _joined(opened: Exchange, exchange: Exchange) -> Exchange:
    """The conversation at an open port, with the attempt before it that found it open."""
    later = (exchange.at - opened.at).total_seconds() * 1000
    asking = [event for event in opened.events if event.what == "asking"]
    return replace(
        exchange,
        at=opened.at,
        tries=exchange.tries + max(0, opened.tries - 1),  # what was answered was no miss
        events=(*asking, *(event._replace(ms=event.ms + later) for event in exchange.events)),
        enciphered=tuple(event._replace(ms=event.ms + later) for event in exchange.enciphered),
    )


def _when(exchange: Exchange) -> datetime:
    return exchange.at
