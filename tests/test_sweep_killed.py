"""A sweep that is killed at any moment and started again: no site lost, none scanned twice, no mail lost or doubled."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from mail_server import serving
from sqlalchemy import create_engine, select

from exposure_scan.history.store import open_store
from exposure_scan.history.tables import SCANS, TASKS
from exposure_scan.lab.network import add_address

SITES = 120
KILLS = 20
SEED = 20261125  # the moments are the same in every run; that they are random is what matters


def sites_toml(port: int) -> str:
    text = f"""
[partner]
name = "Synthetic partner"
mail = "noc@partner.example"

[mail]
host = "127.0.0.1"
port = {port}
security = "none"
"""
    for number in range(1, SITES + 1):
        text += f"""
[[site]]
name = "site {number}"
targets = ["198.18.91.{number}"]
report_to = ["owner{number}@customer.example"]
authorization = {{ by = "a test" }}
"""
    return text


def test_a_sweep_killed_at_twenty_random_moments_does_everything_once(tmp_path: Path) -> None:
    for number in range(1, SITES + 1):
        add_address(f"198.18.91.{number}")
    rng = random.Random(SEED)
    url = f"sqlite:///{tmp_path / 'history.sqlite3'}"
    environment = {**os.environ, "EXPOSURE_SCAN_DB": url, "XDG_STATE_HOME": str(tmp_path / "state")}
    with serving(tls="none", login=False) as server:
        (tmp_path / "sites.toml").write_text(sites_toml(server.port))
        words = [sys.executable, "-m", "exposure_scan", "sweep", "--sites", "sites.toml", "--attach", "none"]

        def start() -> subprocess.Popen[bytes]:
            # --all begins a new run only where none is left to go on with
            return subprocess.Popen([*words, "--all"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE)

        killed = 0
        while killed < KILLS:
            process = start()
            try:
                process.communicate(timeout=rng.uniform(0.3, 2.5))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                killed += 1
            else:
                break  # it was through before the kill: the rest is looked at below
        assert killed >= KILLS // 2, "the sweep is faster than this test; give it more sites"
        last = start()
        said = last.communicate(timeout=120)[1].decode()
        unknown = said.count("nobody knows whether this arrived")
        delivered = Counter(message.recipient for message in server.accepted)

    engine = create_engine(url)
    with engine.connect() as db:
        tasks = list(db.execute(select(TASKS.c.run, TASKS.c.site, TASKS.c.scan)))
        scans = list(db.execute(select(SCANS.c.site, SCANS.c.scan)))
    engine.dispose()
    runs = {row.run for row in tasks}
    for run in runs:
        assert len({row.site for row in tasks if row.run == run}) == SITES
    assert all(row.scan is not None for row in tasks)
    assert set(Counter(row.site for row in scans).values()) == {len(runs)}
    assert {delivered[f"owner{number}@customer.example"] for number in range(1, SITES + 1)} <= {0, 1}
    missing = [number for number in range(1, SITES + 1) if not delivered[f"owner{number}@customer.example"]]
    assert len(missing) <= unknown
    with open_store(url) as store:
        assert store.outbox.counts().get("queued", 0) == 0
        assert store.outbox.counts()["sent"] + unknown >= SITES
