"""Mail that leaves: what waits in the outbox goes to the server of the sites file, or into files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from exposure_scan import deliver, files, scope
from exposure_scan.history.outbox import Outbox, Piece
from exposure_scan.history.store import Store
from exposure_scan.model import Problem
from exposure_scan.model.text import file_name, terminal_text

from .scanning import now

_PORTS: Mapping[str, int] = {"starttls": 587, "tls": 465, "none": 25}
_MOST_BROKEN = 3  # connections in a row that end before a message was taken or refused
_MOST_SECRET = 4096  # bytes
_COMMAND_SECONDS = 60
_SAID = 300
_NAME = 60  # bytes of a site or a recipient in a file's name


@dataclass(slots=True)
class Sent:
    """What became of the mail. All texts are clean lines."""

    sent: int = 0
    refused: list[str] = field(default_factory=list)  # who, and what the server said
    later: int = 0
    waiting: list[str] = field(default_factory=list)  # who is to be tried again, and why
    unknown: list[str] = field(default_factory=list)
    problem: str = ""  # why the server could not be used
    stopped: bool = False  # what is left waits as it was


def send_mail(
    store: Store,
    server: deliver.Server,
    *,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], datetime] = now,
) -> Sent:
    """Hand over what waits in the outbox and is due; each piece at most once. As soon as `stop` says so, no more.

    What the last process was handing over when it ended is told as unknown, once. Only one process may do this
    for a history at a time.
    """
    box, found, at = store.outbox, Sent(), clock()
    found.unknown += [_who(piece, "the program ended while the server had the message") for piece in box.recover(at)]
    broken = 0
    while not stop() and (pieces := box.due(at)):
        before = found.sent + len(found.refused)
        try:
            with deliver.connected(server, stop) as delivery:
                for piece in pieces:
                    _send(piece, delivery, box, found, stop, clock)
                    if not delivery.open or stop():
                        break  # the rest is tried over a new one
            broken = broken + 1 if found.sent + len(found.refused) == before else 0
            if broken >= _MOST_BROKEN:
                raise ConnectionError(f"{server.host}:{server.port} ended {broken} connections in a row")
        except ConnectionError as error:
            if stop():
                break
            found.problem = terminal_text(str(error), _SAID)
            _all_later(box, found, at, clock)
    found.stopped = stop()
    return found


def _send(
    piece: Piece,
    delivery: deliver.Delivery,
    box: Outbox,
    found: Sent,
    stop: Callable[[], bool],
    clock: Callable[[], datetime],
) -> None:
    handed = False

    def hand_over() -> bool:
        nonlocal handed
        handed = not stop() and box.hand_over(piece, clock())
        return handed

    outcome = delivery.send(piece.recipient, piece.message, hand_over)
    said = terminal_text(outcome.said, _SAID)
    match outcome.fate:
        case deliver.Fate.SENT:
            box.settle(piece, "sent", said, clock())
            found.sent += 1
        case deliver.Fate.REFUSED:
            box.settle(piece, "refused", said, clock())
            found.refused.append(_who(piece, said))
        case deliver.Fate.UNKNOWN:
            box.settle(piece, "unknown", said, clock())
            found.unknown.append(_who(piece, said))
        case deliver.Fate.LATER if handed or not stop():
            _later(piece, said, box, found, clock)
        case _:
            pass  # it was stopped and waits as it was; or whoever took it writes down what became of it


def _later(piece: Piece, said: str, box: Outbox, found: Sent, clock: Callable[[], datetime]) -> None:
    if box.postpone(piece, said, clock()):
        found.later += 1
        found.waiting.append(_who(piece, said))
    else:
        found.refused.append(_who(piece, f"given up after {piece.tries + 1} tries; the last: {said}"))


def _all_later(box: Outbox, found: Sent, at: datetime, clock: Callable[[], datetime]) -> None:
    """Try everything that is due again later: the server is asked once, not for each piece."""
    while pieces := box.due(at):
        for piece in pieces:
            _later(piece, found.problem, box, found, clock)


def _who(piece: Piece, said: str) -> str:
    return f"{terminal_text(piece.recipient, 120)} ({terminal_text(piece.site, 60)}): {said}"


def write_eml(pieces: Sequence[Piece], folder: Path) -> tuple[Path, ...]:
    """Write the mail into a folder, for its owner alone, as the files that mail programs open; the outbox stays.

    Raises:
        Problem: a file cannot be written.
    """
    files.make_own_folder(folder)
    paths = tuple(
        folder / f"{piece.id:06d}-{file_name(piece.site, _NAME)}-{file_name(piece.recipient, _NAME)}.eml"
        for piece in pieces
    )
    for path, piece in zip(paths, pieces, strict=True):
        files.write_file(path, piece.message)
    return paths


# --- the server -----------------------------------------------------------------------------------


def server(read: scope.SitesFile) -> deliver.Server:
    """The mail server of a sites file, with its password from where that stands.

    Raises:
        Problem: the file names no server or sender, or the password cannot be had; the sentence does not hold it.
    """
    mail = read.mail
    if not mail:
        raise Problem(f"{read.path}: no mail server is named; add a table [mail] with its host.")
    sender = mail.get("sender") or read.partner.get("mail")
    if not sender:
        raise Problem(f"{read.path}: nobody is named who the mail is from; set mail.sender or partner.mail.")
    security: Literal["starttls", "tls", "none"] = mail.get("security") or (
        "tls" if mail.get("port") == _PORTS["tls"] else "starttls"
    )
    username = mail.get("username")
    if username and security == "none":
        raise Problem(f'{read.path}: mail.security = "none" would send the password in clear; use "starttls" or "tls".')
    secret = password(mail)
    if username and secret is None:
        raise Problem(
            f"{read.path}: mail.username has no password; say where it stands with mail.password_env, "
            "mail.password_file or mail.password_command."
        )
    return deliver.Server(
        host=mail["host"],
        port=mail.get("port") or _PORTS[security],
        security=security,
        sender=deliver.address(sender),
        username=username,
        password=secret,
    )


def password(mail: Mapping[str, object]) -> str | None:
    """The password from where the sites file says it stands: the environment, a file, or a program's output.

    Of a file or an output it is the first line.

    Raises:
        Problem: it is not there, or the file can be read by others; the sentence does not hold it.
    """
    if isinstance(name := mail.get("password_env"), str):
        if not os.environ.get(name):
            raise Problem(f"The environment has no {name}, which mail.password_env names; set it before the sweep.")
        return os.environ[name]
    if isinstance(where := mail.get("password_file"), str):
        path = Path(where).expanduser()
        found, what = _first_line(_of_file(path)), f"{path}, which mail.password_file names,"
    elif isinstance(command := mail.get("password_command"), list):
        found, what = _first_line(_of_command(command)), "What mail.password_command wrote"
    else:
        return None
    if found is None:
        raise Problem(f"{what} has no password in its first line, in UTF-8.")
    return found


def _of_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise Problem(f"{path}, which mail.password_file names, can be read by others: chmod 600 {path}.")
            return file.read(_MOST_SECRET)
    except OSError as error:
        why = error.strerror or type(error).__name__
    raise Problem(f"{path}, which mail.password_file names, cannot be read ({why}).")


def _of_command(command: Sequence[str]) -> bytes:
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_COMMAND_SECONDS
        )
        if done.returncode == 0:
            return done.stdout[:_MOST_SECRET]
        why = f"it ended with {done.returncode}"  # without what it wrote: that may hold the secret
    except subprocess.TimeoutExpired:
        why = f"it took longer than {_COMMAND_SECONDS} seconds"
    except OSError as error:
        why = error.strerror or type(error).__name__
    raise Problem(f"mail.password_command did not give a password: {why}.")


def _first_line(data: bytes) -> str | None:
    text = data.partition(b"\n")[0].rstrip(b"\r").decode("utf-8", "replace")
    return text if text and "\ufffd" not in text else None
