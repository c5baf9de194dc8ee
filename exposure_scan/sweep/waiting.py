"""Waiting for the next sweep: until a site is due, mail may be tried again, or somebody stops it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from exposure_scan import scope
from exposure_scan.history.store import Store

from .due import due, trigger
from .scanning import now

_MAIL = 60  # seconds between two looks for mail that may be tried again
_STOP = 1  # seconds between two looks for the stop file


def stop_wanted(stop_file: Path | None) -> bool:
    """Whether somebody wants everything to stop: the file is there, be it a link that leads nowhere.

    Where nobody can tell, it is wanted: its folder was closed to us.
    """
    try:
        return stop_file is not None and bool(stop_file.lstat())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def until_due(orders: Sequence[scope.Order], store: Store, stop_file: Path | None) -> None:
    """Return when there is something to do. What came due meanwhile is due at once, and only once."""
    from apscheduler.schedulers.background import BackgroundScheduler

    if due(orders, store.last_attempts(), now()):
        return
    wake = threading.Event()
    scheduler = BackgroundScheduler(job_defaults={"coalesce": True, "misfire_grace_time": None})
    for schedule in sorted({order.schedule for order in orders if order.schedule}):
        scheduler.add_job(wake.set, trigger(schedule))

    def look_for_mail() -> None:
        if store.outbox.due(now(), most=1):
            wake.set()

    def look_for_stop() -> None:
        if stop_wanted(stop_file):
            wake.set()

    scheduler.add_job(look_for_mail, "interval", seconds=_MAIL)
    scheduler.add_job(look_for_stop, "interval", seconds=_STOP)
    scheduler.start()
    try:
        wake.wait()
    finally:
        scheduler.shutdown(wait=False)
