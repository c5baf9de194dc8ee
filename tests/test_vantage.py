"""The vantage check over real sockets: both ends, and what stands between them. Everybody in it is synthetic."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from peers import Wire, run, wire
from sites_files import CONSENT, HEAD
from typer.testing import CliRunner
from vantage_ends import (
    BEHIND,
    GREETING,
    HOST,
    HOST6,
    KEY,
    NOW,
    OTHER,
    PROXY,
    but_ok,
    checked,
    greet,
    order,
    own_addresses,
    serve,
    without,
)

from exposure_scan import vantage
from exposure_scan.cli import app
from exposure_scan.conversation import Event, Exchange, Observation
from exposure_scan.model import PortState, Problem, Question, Vantage
from exposure_scan.plan import default_ports
from exposure_scan.report import load_scan
from exposure_scan.sweep.vantage import Check, Reach, conclude, looking_from


@pytest.fixture(scope="module", autouse=True)
def _addresses() -> None:
    own_addresses()


# --- both ends ------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [HOST, HOST6])
def test_a_network_that_lets_everything_out_is_found_so(host: str) -> None:
    async def main() -> tuple[vantage.Serving, Check]:
        async with serve(listen=host) as served:
            return served, await checked(host)

    served, done = run(main())
    assert served == vantage.Serving(default_ports(), ())
    assert but_ok(done) == {}
    assert (done.proven, done.seen, done.host, done.on, done.left_aside) == (True, (host,), host, NOW, ())


def test_a_port_that_nothing_answers_on_is_blind() -> None:
    async def main() -> Check:
        async with serve(without("tcp/25", "udp/53")):
            return await checked()

    done = run(main())
    assert but_ok(done) == {
        "tcp/25": (Reach.BLIND, f"rst from {HOST}"),
        "udp/53": (Reach.BLIND, f"icmp-port-unreachable from {HOST}"),
    }
    assert (done.ports(Reach.BLIND), done.ports(Reach.FORGED)) == (("tcp/25", "udp/53"), ())


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        await reader.read()
    writer.close()


def test_whoever_answers_instead_is_found_out() -> None:
    async def main() -> Check:
        mail = await asyncio.start_server(greet, HOST, 25)
        helper = await asyncio.start_server(_say_nothing, HOST, 5060)
        async with mail, helper, serve(without("tcp/25", "tcp/5060")):
            return await checked()

    done = run(main())
    assert but_ok(done) == {
        "tcp/25": (Reach.FORGED, f'answered "{GREETING.decode().strip()}"'),
        "tcp/5060": (Reach.FORGED, "a connection is accepted, and nobody there proves the key"),
    }


def test_a_server_with_another_key_proves_nothing() -> None:
    async def main() -> Check:
        async with serve(key=OTHER):
            return await checked()

    done = run(main())
    assert not done.proven
    assert {one.reach for one in done.found if one.port.startswith("udp")} == {Reach.BLIND}
    assert {one.reach for one in done.found if one.port.startswith("tcp")} == {Reach.FORGED}


def test_where_nobody_serves_nothing_is_proven() -> None:
    done = run(checked())
    assert not done.proven
    assert done.ports(Reach.BLIND) == default_ports()


@asynccontextmanager
async def passing_on(port: int, to: str, source: str) -> AsyncIterator[None]:
    """A transparent proxy: connections to HOST are passed on, word for word, from `source`."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(4096):
                writer.write(data)
        writer.close()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up, down = await asyncio.open_connection(to, port, local_addr=(source, 0))
        await asyncio.gather(pump(reader, down), pump(up, writer))

    server = await asyncio.start_server(handle, HOST, port)
    async with server:
        yield


@pytest.mark.parametrize(
    ("source", "because"),
    [
        (PROXY, f"passed on by {PROXY}; the others come from {HOST}"),
        (HOST, "passed on from a port that is not ours; the others come as we sent them"),
    ],
)
def test_a_proxy_that_passes_everything_on_is_told_by_where_it_comes_from(source: str, because: str) -> None:
    async def main() -> Check:
        async with (
            serve(without("tcp/25")),
            serve(["tcp/25"], listen=BEHIND),
            passing_on(25, BEHIND, source),
        ):
            return await checked()

    assert but_ok(run(main())) == {"tcp/25": (Reach.FORGED, because)}


def _exchange(port: str, local: str, seen: str | None) -> Exchange:
    transport, _, number = port.partition("/")
    return Exchange(
        question=Question("tcp" if transport == "tcp" else "udp", int(number), f"vantage-{transport}"),
        state=PortState.OPEN if seen else PortState.FILTERED,
        reason="syn-ack" if seen else "no-response",
        by=HOST if seen else None,
        tries=1,
        rtt_ms=None,
        observation=Observation("vantage", f"seen as {seen}", answered=True, valid=True) if seen else Observation(),
        at=NOW,
        events=(Event(0, "connected", detail=f"{local} {HOST}|{number}"),),
    )


def test_address_translation_alone_forges_nothing() -> None:
    told = [
        (HOST, _exchange(port, f"198.18.78.50|{40000 + n}", f"198.18.78.51|{50000 + n}"))
        for n, port in enumerate(default_ports())
    ]
    done = conclude(HOST, NOW, told)
    assert but_ok(done) == {}
    assert done.seen == ("198.18.78.51",)


def test_a_family_of_addresses_that_this_network_lacks_is_left_aside() -> None:
    told = [(HOST, _exchange(port, f"{HOST}|40000", f"{HOST}|40000")) for port in default_ports()]
    told += [(HOST6, _exchange(port, f"{HOST6}|40000", None)) for port in default_ports()]
    done = conclude("synthetic.example", NOW, told)
    assert but_ok(done) == {}
    assert done.left_aside == (HOST6,)


def test_what_one_family_cannot_reach_is_blind() -> None:
    told = [(HOST, _exchange(port, f"{HOST}|40000", f"{HOST}|40000")) for port in default_ports()]
    told += [
        (HOST6, _exchange(port, f"{HOST6}|40000", None if port == "tcp/25" else f"{HOST6}|40000"))
        for port in default_ports()
    ]
    done = conclude("synthetic.example", NOW, told)
    assert (done.ports(Reach.BLIND), done.ports(Reach.FORGED)) == (("tcp/25",), ())
    assert len(done.ports(Reach.OK)) == len(default_ports()) - 1
    assert (done.seen, done.left_aside) == ((HOST, HOST6), ())


def test_only_one_machine_is_checked_and_nothing_is_sent_to_more() -> None:
    async def main() -> Wire:
        async with wire() as seen:
            with pytest.raises(Problem, match="name the one machine"):
                await checked("198.18.78.0/30")
        return seen

    assert run(main()).packets == []


# --- the key --------------------------------------------------------------------------------------


def test_the_key_is_read_without_the_end_of_its_line(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY + b"\r\n")
    assert vantage.read_key(tmp_path / "key", {}) == KEY
    assert vantage.read_key(None, {vantage.KEY_VARIABLE: f" {KEY.decode()} "}) == KEY
    assert vantage.read_key(tmp_path / "key", {vantage.KEY_VARIABLE: OTHER.decode()}) == KEY


@pytest.mark.parametrize(
    "words", [b"", b" \n", b"123456789012345", b"x" * 5000], ids=["none", "blank", "short", "long"]
)
def test_what_is_no_key_is_refused(tmp_path: Path, words: bytes) -> None:
    (tmp_path / "key").write_bytes(words)
    for path, environment in ((tmp_path / "key", {}), (None, {vantage.KEY_VARIABLE: words.decode()})):
        with pytest.raises(Problem, match="openssl rand"):
            vantage.read_key(path, environment)
    with pytest.raises(Problem, match="cannot be read"):
        vantage.read_key(tmp_path / "none", {})


# --- what is kept ---------------------------------------------------------------------------------


def kept(folder: Path) -> Path:
    path = folder / "vantage.json"
    told = [
        (HOST, _exchange(port, f"{HOST}|40000", None if port == "tcp/25" else f"{HOST}|40000"))
        for port in default_ports()
    ]
    conclude(HOST, NOW, told).keep(path)
    return path


KEPT = Vantage(name=f"network of {HOST}", checked=True, on=NOW, blind=("tcp/25",))


def test_a_check_is_kept_for_its_owner_alone_and_says_what_it_is(tmp_path: Path) -> None:
    path = kept(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["schema"] == "exposure-scan/vantage/1"
    assert vantage.load_stored(path, NOW) == KEPT


@pytest.mark.parametrize(
    ("age", "counts"),
    [
        (timedelta(0), True),
        (timedelta(days=30), True),
        (timedelta(days=30, seconds=1), False),
        (timedelta(seconds=-1), False),
    ],
)
def test_a_check_counts_for_thirty_days(tmp_path: Path, age: timedelta, counts: bool) -> None:
    assert (vantage.load_stored(kept(tmp_path), NOW + age) is not None) is counts


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[:-20],
        lambda text: text.replace("exposure-scan/vantage/1", "exposure-scan/vantage/2"),
        lambda text: text.replace('"checked": true', '"checked": false'),
        lambda text: text.replace("12:00:00Z", "12:00:00"),
        lambda text: text.replace('"2026-11-24T12:00:00Z"', "null"),
    ],
)
def test_what_is_no_check_is_none(tmp_path: Path, change: Callable[[str], str]) -> None:
    path = kept(tmp_path)
    changed = change(path.read_text())
    assert changed != path.read_text()
    path.write_text(changed)
    assert vantage.load_stored(path, NOW) is None
    assert vantage.load_stored(tmp_path / "none.json", NOW) is None


def test_a_scan_looks_from_what_was_kept_unless_the_sites_file_has_its_own_check(tmp_path: Path) -> None:
    path, plain = kept(tmp_path), order(HOST)
    assert looking_from(plain, path, NOW).vantage == KEPT
    assert looking_from(plain, path, NOW + timedelta(days=31)) == plain
    assert looking_from(plain, tmp_path / "none.json", NOW) == plain
    named = replace(plain, vantage=Vantage(name="office", outside=False))
    assert looking_from(named, path, NOW).vantage == KEPT.model_copy(update={"name": "office", "outside": False})
    for own in (
        Vantage(name="office", checked=True, on=NOW),
        Vantage(name="office", blind=("tcp/80",)),
        Vantage(name="office", forged=("tcp/80",)),
    ):
        assert looking_from(replace(plain, vantage=own), path, NOW).vantage == own


@pytest.mark.usefixtures("practice_site")
def test_a_sweep_looks_from_what_was_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that this network cannot ask is unmeasured, whichever command asks."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    stored = vantage.stored_path()
    stored.parent.mkdir(parents=True, exist_ok=True)
    told = [
        (HOST, _exchange(port, f"{HOST}|40000", None if port == "tcp/25" else f"{HOST}|40000"))
        for port in default_ports()
    ]
    conclude(HOST, datetime.now(UTC), told).keep(stored)
    (tmp_path / "sites.toml").write_text(HEAD.replace("198.51.100.12", "198.51.100.10") + CONSENT)
    words = ["sweep", "--sites", str(tmp_path / "sites.toml"), "--all", "--no-mail", "--out", str(tmp_path / "out")]
    ended = CliRunner().invoke(app, [*words, "--db", f"sqlite:///{tmp_path / 'h.sqlite3'}"])
    assert ended.exit_code == 1, ended.output
    (file,) = (tmp_path / "out").glob("*/scan.json")
    (host,) = load_scan(file.read_text()).hosts
    seen = {port.key: (port.state, port.reason) for port in host.ports}
    assert seen["tcp/25"] == (PortState.UNMEASURED, "vantage-blind")
    assert seen["tcp/143"] == (PortState.OPEN, "syn-ack")
