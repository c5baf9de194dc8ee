"""`history`, `changes` and `history prune` as a partner types them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import samples
import typer
from commands import Say, sayer

from exposure_scan.cli import app
from exposure_scan.cli.history import add_history
from exposure_scan.history.pruning import Pruned
from exposure_scan.history.store import Store, default_url, open_store
from exposure_scan.model import PortState, Scan, Status, Verdict

DAY = timedelta(days=1)
ADDRESS = "198.51.100.10"


@pytest.fixture(scope="module", autouse=True)
def _added() -> None:
    if not any(group.name == "history" for group in app.registered_groups):
        add_history(app)


@pytest.fixture
def db(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'history.sqlite3'}"


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Say:
    return sayer(monkeypatch, capsys, tmp_path, 160)


def scan_of(number: int, site: str = "exposed-server", **more: object) -> Scan:
    made = samples.exposed_server()
    at = samples.AT + DAY * number
    return made.model_copy(
        update={"id": f"{site}-{number}", "started": at, "finished": at}
        | {"site": made.site.model_copy(update={"name": site})}
        | more
    )


def with_statuses(**statuses: Status) -> tuple[object, ...]:
    named = {name.replace("_", "."): status for name, status in statuses.items()}
    found = samples.exposed_server().findings
    return tuple(one.model_copy(update={"status": named.get(one.practice, Status.MET)}) for one in found)


def keep(db: str, *scans: Scan, folder: Path | None = None) -> None:
    with open_store(db) as store:
        for scan in scans:
            store.add(scan, now=scan.finished, folder=folder)


def lines(out: str) -> list[list[str]]:
    """The lines of a table, each in its cells."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in out.splitlines()]


# --- history SITE ---------------------------------------------------------------------------------


def test_the_scans_of_a_site_the_newest_first(say: Say, db: str) -> None:
    keep(db, scan_of(0), folder=Path("/srv/reports/exposed-server"))
    keep(db, scan_of(1, verdict=Verdict.GO, findings=with_statuses()))
    code, out, err = say("history", "exposed-server", "--db", db)
    assert (code, err) == (0, "")
    assert lines(out)[-2:] == [
        ["2026-11-04 14:05", "GO", "0", "0", "0", "4"],
        ["2026-11-03 14:05", "NO-GO", "6", "1", "13", "4", "/srv/reports/exposed-server"],
    ]


def test_options_may_stand_before_the_site_and_a_site_may_be_called_as_a_command(say: Say, db: str) -> None:
    for site in ("prune", "scans", "changes"):
        keep(db, scan_of(0, site))
    assert say("history", "--db", db, "scans")[1].startswith("scans: 1 scan")
    assert say("history", "changes", "--db", db)[1].startswith("changes: 1 scan")
    assert say("history", "--db", db, "--", "prune")[1].startswith("prune: 1 scan")
    assert say("history", "--", "prune")[0] == 2


def test_an_unknown_site_is_wrong_use(say: Say, db: str) -> None:
    keep(db, scan_of(0))
    for command in ("history", "changes"):
        code, out, err = say(command, "elsewhere", "--db", db)
        assert (code, out) == (2, "")
        assert "it knows: 'exposed-server'" in err


@pytest.mark.parametrize("site", ["[bold]x[/bold]", samples.HOSTILE])
def test_a_name_is_shown_as_it_is_and_harmless(say: Say, db: str, site: str) -> None:
    keep(db, scan_of(0, site), scan_of(1, site), folder=Path("/srv") / site.replace("\0", ""))
    for command in ("history", "changes"):
        code, out, err = say(command, site, "--db", db)
        assert (code, err) == (0, "")
        assert not any(ord(char) < 32 and char != "\n" for char in out)
        assert "\u202e" not in out
        if site == "[bold]x[/bold]":
            assert out.count(site) == (3 if command == "history" else 1)


# --- changes SITE ---------------------------------------------------------------------------------


def test_each_kind_of_change_is_told(say: Say, db: str) -> None:
    broken, met, doubt = Status.NOT_MET, Status.MET, Status.CANNOT_TELL
    names = ("sip_not-reachable", "server_stealth", "password_admin", "software_supported", "password_users")
    courses = {
        names[0]: (met, met, broken),
        names[1]: (broken, met, broken),
        names[2]: (broken, broken, doubt),
        names[3]: (broken, broken, met),
        names[4]: (broken, broken, broken),
    }
    for number in range(3):
        found = with_statuses(**{name: course[number] for name, course in courses.items()})
        keep(db, scan_of(number * 5, findings=found))
    code, out, err = say("changes", "exposed-server", "--db", db)
    assert (code, err) == (0, "")
    rows = [row for row in lines(out) if len(row) > 5][1:]
    assert rows == [
        ["New", "sip.not-reachable", ADDRESS, "Met", "Not met", "2026-11-13"],
        ["Back again", "server.stealth", ADDRESS, "Met", "Not met", "2026-11-13"],
        ["No longer seen", "password.admin", ADDRESS, "Not met", "Cannot tell", "2026-11-13"],
        ["Fixed", "software.supported", ADDRESS, "Not met", "Met", "2026-11-13"],
        ["Still broken", "password.users", ADDRESS, "Not met", "Not met", "2026-11-03", "10 days"],
    ]
    assert "the scan of 2026-11-13 14:05 UTC, NO-GO" in out
    assert "Held against that of 2026-11-08 14:05 UTC, NO-GO." in out


def test_an_age_is_told_when_its_first_scan_was_pruned(say: Say, db: str) -> None:
    keep(db, *(scan_of(number) for number in range(40)))
    with open_store(db) as store:
        store.prune(samples.AT + DAY * 38)
    out = say("changes", "exposed-server", "--db", db)[1]
    assert {tuple(row[-2:]) for row in lines(out) if row and row[0] == "Still broken"} == {("2026-11-03", "39 days")}


def test_doors_addresses_and_targets_are_told_as_such(say: Say, db: str) -> None:
    def host(address: str, **states: PortState) -> object:
        ports = (samples.port("tcp", int(key[3:]), state) for key, state in states.items())
        return samples.host(address, changed=tuple(ports))

    site = samples.exposed_server().site
    before = scan_of(0, hosts=(host(ADDRESS, tcp25=PortState.OPEN), host("198.51.100.11")), findings=())
    after = scan_of(
        1,
        hosts=(host(ADDRESS, tcp8080=PortState.OPEN), host("198.51.100.12", tcp443=PortState.OPEN)),
        findings=(),
    )
    for scan, target in ((before, "old.example"), (after, "new.example")):
        targets = {"site": site.model_copy(update={"targets": (ADDRESS, target)})}
        keep(db, scan.model_copy(update=targets))
    out = say("changes", "exposed-server", "--db", db)[1]
    for sentence in (
        "Targets added by the operator: new.example.",
        "Targets removed by the operator: old.example.",
        "Addresses scanned now and not the last time: 198.51.100.12.",
        "Addresses scanned the last time and not now: 198.51.100.11.",
        "Opened at 198.51.100.10: tcp/8080.",
        "Shut at 198.51.100.10: tcp/25.",
    ):
        assert sentence in out
    assert "tcp/443" not in out


def test_the_first_scan_and_one_without_a_change_say_so(say: Say, db: str) -> None:
    keep(db, scan_of(0, findings=with_statuses()))
    assert "nothing to hold it against" in say("changes", "exposed-server", "--db", db)[1]
    keep(db, scan_of(1, findings=with_statuses()))
    assert "Nothing changed" in say("changes", "exposed-server", "--db", db)[1]


# --- history prune --------------------------------------------------------------------------------


def test_old_scans_and_their_files_go(say: Say, db: str, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    for number, days in enumerate((50, 31, 29, 1)):
        folder = tmp_path / str(days)
        folder.mkdir()
        for name in ("report.html", "notes.txt"):
            (folder / name).write_text(name)
        made = scan_of(number, started=now - DAY * days)
        with open_store(db) as store:
            sums = {"report.html": hashlib.sha256(b"report.html").hexdigest()}
            store.add(made, now=now, folder=folder, files=sums)
    assert say("history", "prune", "--older-than", "30", "--db", db) == (0, "Removed: 2 scans and 2 files.\n", "")
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")}
    assert left == {f"{days}/notes.txt" for days in (50, 31, 29, 1)} | {f"{days}/report.html" for days in (29, 1)}
    assert say("history", "exposed-server", "--db", db)[1].startswith("exposed-server: 2 scans")


def test_a_file_that_stays_is_named(say: Say, db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = tmp_path / "stuck" / "report.html"
    done = Pruned(1, (), (stuck,))
    monkeypatch.setattr(Store, "prune", lambda self, before: done)
    code, out, err = say("history", "prune", "--older-than", "30", "--db", db)
    assert (code, out) == (4, "Removed: 1 scan and 0 files.\n")
    assert f"{stuck} cannot be removed" in err


@pytest.mark.parametrize("days", ["0", "-1", "x", None])
def test_without_a_number_of_days_nothing_is_removed(say: Say, db: str, days: str | None) -> None:
    keep(db, scan_of(0), scan_of(1))
    assert say("history", "prune", "--db", db, *(["--older-than", days] if days else []))[0] == 2
    with open_store(db) as store:
        assert len(store.scans_of("exposed-server")) == 2


def test_no_scan_is_pruned_under_a_sweep(say: Say, db: str) -> None:
    from exposure_scan.sweep import nightly

    with nightly.only_one(db):
        code, _, err = say("history", "prune", "--older-than", "30", "--db", db)
    assert code == 2
    assert "Another sweep" in err


# --- help -----------------------------------------------------------------------------------------


def test_the_example_at_the_end_of_each_help_runs(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    keep(default_url(), scan_of(0), scan_of(1))
    for words in (["history"], ["history", "x"], ["history", "prune"], ["changes"]):
        code, out, _ = say(*words, "--help")
        assert code == 0
        assert "exposure-scan " + " ".join(words).removesuffix(" x") + " [OPTIONS]" in out
        example = " ".join(out.rpartition("Example:")[2].split())
        assert example.startswith(f"exposure-scan {words[0]}")
        code, out, err = say(*example.split()[1:])
        assert (code, err) == (0, "")
        assert out
    assert "prune" in say("history", "-h")[1]
    assert "exposure-scan history [OPTIONS] SITE | prune" in say("history")[2] + say("history")[1]


def test_a_group_of_its_own_can_take_the_commands() -> None:
    other = typer.Typer()
    add_history(other)
    assert [group.name for group in other.registered_groups] == ["history"]
