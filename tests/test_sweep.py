"""A sweep of many sites: what is due, what fails alone, one address at a time, and what stops it at once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
from peers import run

from exposure_scan import scope
from exposure_scan.history.store import Store, open_store
from exposure_scan.lab.network import add_address
from exposure_scan.model import Problem, Verdict
from exposure_scan.sweep import letters, nightly
from exposure_scan.transport import Gate

HOSTS = [f"198.18.92.{number}" for number in range(1, 9)]


@pytest.fixture(scope="module", autouse=True)
def addresses() -> None:
    for host in HOSTS:
        add_address(host)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with open_store(f"sqlite:///{tmp_path / 'history.sqlite3'}") as opened:
        yield opened


def order(name: str, target: str, schedule: str | None = "0 3 * * *") -> scope.Order:
    made = scope.order_from_words([target], authorized_by="a test", name=name)
    return replace(made, schedule=schedule)


def swept(orders: list[scope.Order], store: Store, out: Path, **more: object) -> nightly.Sweep:
    settings = nightly.Settings(out=out, **more)  # type: ignore[arg-type]
    return asyncio.run(nightly.sweep(orders, store, settings))


def test_what_is_due_is_scanned_kept_and_written_and_is_not_due_again(store: Store, tmp_path: Path) -> None:
    orders = [order("one", HOSTS[0]), order("two", HOSTS[1]), order("never", HOSTS[2], schedule=None)]
    found = swept(orders, store, tmp_path)
    assert {one.site: one.verdict for one in found.ended} == {"one": Verdict.GO, "two": Verdict.GO}
    assert (tmp_path / "one" / "report.html").is_file()
    assert set(store.last_scans()) == {"one", "two"}
    assert swept(orders, store, tmp_path).ended == []
    assert {one.site for one in swept(orders, store, tmp_path, everything=True).ended} == {"one", "two", "never"}
    assert "The verdict is still GO." in (tmp_path / "one" / "report.html").read_text()


def test_one_site_s_failure_stops_no_other_and_is_told(store: Store, tmp_path: Path) -> None:
    over = order("over", HOSTS[1])
    over = replace(
        over, authorization=over.authorization.model_copy(update={"until": datetime(2020, 1, 1, tzinfo=UTC)})
    )
    found = swept([order("one", HOSTS[0]), over, order("two", HOSTS[2])], store, tmp_path)
    told = {one.site: one for one in found.ended}
    assert told["one"].verdict is Verdict.GO
    assert told["two"].verdict is Verdict.GO
    assert told["over"].verdict is None
    assert "expired" in told["over"].why
    assert store.failures() == {"over": (1, told["over"].why)}
    assert swept([over], store, tmp_path).ended == []  # it was tried; its schedule has not come again


def test_an_address_that_two_sites_name_is_scanned_once_at_a_time(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = most = 0
    admitted = Gate.admit

    def admit(self: Gate, target: object) -> None:
        nonlocal at_once, most
        admitted(self, target)  # type: ignore[arg-type]
        at_once = len(self._hosts)
        most = max(most, at_once)

    monkeypatch.setattr(Gate, "admit", admit)
    found = swept([order("one", HOSTS[0]), order("two", HOSTS[0])], store, tmp_path)
    assert [one.verdict for one in found.ended] == [Verdict.GO, Verdict.GO]
    assert most == 1


def test_a_stop_file_ends_the_sweep_and_the_next_one_goes_on(store: Store, tmp_path: Path) -> None:
    orders = [order(f"site {number}", host) for number, host in enumerate(HOSTS)]
    stop = tmp_path / "stop"
    stop.touch()
    found = swept(orders, store, tmp_path, stop_file=stop)
    assert (found.stopped, found.ended) == (True, [])
    stop.unlink()
    found = swept([], store, tmp_path)
    assert found.continued
    assert {one.why for one in found.ended} == {"The sites file names it no more."}
    found = swept(orders, store, tmp_path, everything=True)
    assert len(found.ended) == len(orders)


def test_a_stop_file_in_the_middle_lets_no_further_packet_out(store: Store, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    orders = [order(f"site {number}", host) for number, host in enumerate(HOSTS)]
    settings = nightly.Settings(out=tmp_path, stop_file=stop, at_once=1)
    found = asyncio.run(nightly.sweep(orders, store, settings, told=lambda _, __, ___: stop.touch()))
    assert found.stopped
    assert 1 <= len(found.ended) < len(orders)
    stop.unlink()
    rest = swept(orders, store, tmp_path)
    assert rest.continued
    assert len(rest.ended) == len(orders) - len(found.ended)
    assert all(len(store.scans_of(one.site.name)) == 1 for one in orders)


def test_the_stop_silences_a_scan_that_hears_nothing_of_it_and_makes_no_failure_of_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, torn = tmp_path / "stop", []

    async def deaf(order: scope.Order, *, gate: Gate, **more: object) -> None:
        (target,) = await scope.resolve(order, clock=gate.onward)
        async with gate.admitted([target]):
            await gate.pace(target)
            stop.touch()
            for _ in range(1000):  # it does not hear that it is cancelled: the gate has to hold it
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.01)
                try:
                    await gate.pace(target)
                except Problem as refused:
                    torn.append(str(refused))
                    raise

    monkeypatch.setattr(nightly, "scan_site", deaf)
    found = swept([order("one", HOSTS[0])], store, tmp_path, stop_file=stop)
    assert torn == ["The scan was stopped; nothing more is sent."]
    assert (found.stopped, found.ended, store.failures()) == (True, [], {})


def test_a_site_that_is_being_kept_when_the_stop_comes_is_told(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, seen = tmp_path / "stop", threading.Event()
    until, keep = nightly._until, nightly._keep

    @asynccontextmanager
    async def watched(file: Path | None, gate: Gate) -> AsyncIterator[asyncio.Event]:
        async with until(file, gate) as stopped:

            async def tell() -> None:
                await stopped.wait()
                seen.set()

            task = asyncio.create_task(tell())
            yield stopped
            await task

    def kept_late(*words: object) -> None:
        stop.touch()
        assert seen.wait(10)
        keep(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(nightly, "_until", watched)
    monkeypatch.setattr(nightly, "_keep", kept_late)
    settings = nightly.Settings(out=tmp_path, stop_file=stop, at_once=1)
    found = asyncio.run(nightly.sweep([order("one", HOSTS[0]), order("two", HOSTS[1])], store, settings))
    assert found.stopped
    assert [one.site for one in found.ended] == ["one"] == list(store.last_scans())


def test_two_sweeps_of_one_history_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with nightly.only_one("sqlite:///a"):
        with pytest.raises(Problem, match="Another sweep of this history is at work"), nightly.only_one("sqlite:///a"):
            pass
        with nightly.only_one("sqlite:///b"):
            pass
    with nightly.only_one("sqlite:///a"):
        (lock, *_) = (tmp_path / "exposure-scan").glob("*.lock")
        assert lock.stat().st_mode & 0o777 == 0o600


def test_watching_sweeps_at_once_and_ends_with_the_stop_file(tmp_path: Path) -> None:
    text = f'[[site]]\nname = "one"\ntargets = ["{HOSTS[0]}"]\nschedule = "0 3 * * *"\n'
    (tmp_path / "sites.toml").write_text(f'{text}authorization = {{ by = "a test" }}\n')
    words = ["sweep", "--sites", "sites.toml", "--watch", "--stop-file", "stop", "--out", "out"]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "exposure_scan", *words],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "1 site(s) done: 1 go.\n"
        (tmp_path / "stop").touch()
        rest, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert process.returncode == 0
    assert "Reports: out/index.html" in rest
    assert (tmp_path / "out" / "fleet.csv").read_text().count("\n") == 2


def test_the_worst_site_decides_the_exit(tmp_path: Path) -> None:
    text = ""
    for name, host, until in (("good", HOSTS[0], "2099-12-31"), ("over", HOSTS[1], "2020-01-01")):
        text += (
            f'[[site]]\nname = "{name}"\ntargets = ["{host}"]\nauthorization = {{ by = "a test", until = {until} }}\n'
        )
    (tmp_path / "sites.toml").write_text(text)
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    words = [sys.executable, "-m", "exposure_scan", "sweep", "--sites", "sites.toml", "--all", "--out", "out"]
    said = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert said.returncode == 4
    assert "exposure-scan: over: not scanned: " in said.stderr
    assert "2 site(s) done: 1 not scanned, 1 go." in said.stdout
    page = (tmp_path / "out" / "index.html").read_text()
    assert 'href="good/report.html"' in page
    assert "NOT SCANNED" in page.upper()


def test_a_sweep_asks_all_sites_together_no_faster_than_its_pace() -> None:
    async def main() -> float:
        gate = Gate(packets_per_second=200.0)
        targets = [
            (await scope.resolve(replace(order(host, host), packets_per_second=1000.0)))[0] for host in HOSTS[:4]
        ]
        async with gate.admitted(targets):
            loop = asyncio.get_running_loop()
            began = loop.time()
            await asyncio.gather(*(gate.pace(target) for target in targets for _ in range(30)))
            return loop.time() - began

    # 120 packets at 200 a second, less the ten that may go at once; the loop takes its waits as passed
    assert run(main()) == pytest.approx(110 / 200, abs=0.2)


def test_a_run_begins_after_the_last_has_ended(store: Store, tmp_path: Path) -> None:
    first = swept([order("one", HOSTS[0])], store, tmp_path)
    assert not first.continued
    again = swept([order("one", HOSTS[0])], store, tmp_path, everything=True)
    assert not again.continued
    assert len(store.scans_of("one")) == 2
    assert store.last_attempts()["one"] > datetime.now(UTC) - timedelta(minutes=5)


def test_a_weekly_mail_tells_what_changed_since_the_last_mail(store: Store, tmp_path: Path) -> None:
    made = replace(order("one", HOSTS[0]), report_to=("owner@customer.example",), report_when="weekly")
    post = letters.Post("noc@partner.example", "Synthetic partner", "none")

    def sweep_on(day: int) -> None:
        at = datetime(2026, 11, day, 3, tzinfo=UTC)
        settings = nightly.Settings(out=tmp_path, everything=True, post=post)
        asyncio.run(nightly.sweep([made], store, settings, clock=lambda: at))

    for day in (1, 2, 3, 8):
        sweep_on(day)
    queued = [message_from_bytes(piece.message, policy=default) for piece in store.outbox.pieces("queued")]
    assert len(queued) == 2
    text = queued[1].get_body(("plain",))
    assert text is not None
    assert "held against that of 1 November 2026" in " ".join(text.get_content().split())
    page = " ".join((tmp_path / "one" / "report.html").read_text().split())
    assert "held against that of 3 November 2026" in page


@pytest.mark.usefixtures("practice_site")
def test_the_customers_mail_is_made_from_the_masked_copy_and_the_partners_folder_is_complete(
    store: Store, tmp_path: Path
) -> None:
    made = replace(order("exposed", "198.51.100.10"), report_to=("owner@customer.example",))
    swept([made], store, tmp_path, post=letters.Post("noc@partner.example", "Synthetic partner", "html"))
    (piece,) = store.outbox.pieces("queued")
    told = message_from_bytes(piece.message, policy=default)
    parts = [part.get_content() for part in told.walk() if part.get_content_maintype() == "text"]
    assert len(parts) == 3  # the text, its HTML, and the report
    assert all("pbx.exposed-server" not in part for part in parts)
    assert "InSciTek OIS Ready" in parts[2]
    assert "pbx.exposed-server" in (tmp_path / "exposed" / "report.html").read_text()
