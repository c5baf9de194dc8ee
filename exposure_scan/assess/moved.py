"""Voicemail that was moved to other port numbers: where it answers, how it was found, and what moving bought."""

from __future__ import annotations

from exposure_scan.model import Port, PortState

from .look import ALLWORX, Look, class_of, foreign, knocked_shut, listed, tell

MAIL = ("tcp/25", "tcp/143", "tcp/465", "tcp/587", "tcp/993")  # the Internet's own numbers of SMTP and IMAP
_POP3 = ("tcp/110", "tcp/995")
_LONG = 120  # seconds from which on minutes are told


def what_moving_bought(look: Look) -> tuple[tuple[Port, ...], str]:
    """Mail (SMTP, IMAP, POP3) elsewhere than on its standard ports, and sentences on it, each after a space.

    POP3 gives the same inbox, but the practice does not name it: it is told and breaks nothing.
    """
    own = [port for port in look.open if port.service in ("smtp", "imap", "pop3")]
    away = [port for port in own if port.key not in (_POP3 if port.service == "pop3" else MAIL)]
    moved = [port for port in away if not foreign(port)]
    other = [port for port in away if foreign(port)]
    pop3 = [port for port in own if port.key in _POP3 and port.service == "pop3" and not foreign(port)]
    said = []
    if pop3:
        said.append(f"POP3, which gives the same inbox, does: {tell(pop3)}.")
    if other:
        said.append(f"Mail of another product answers elsewhere: {tell(other)}.")
    if moved:
        said += [f"Mail answers elsewhere: {tell(moved)}.", *_how_found(look, moved)]
        said.append("Another port number keeps off only those who look at standard ports alone.")
        said += _naming(moved)
    elif _all_shut_or_known(look):
        said.append(f"The sweep of all other TCP ports found no {'other ' if other else ''}mail.")
    return (*moved, *other, *pop3), "".join(f" {sentence}" for sentence in said)


def _how_found(look: Look, moved: list[Port]) -> list[str]:
    sweep = look.host.sweep
    declared = {*look.site.expect, *(f"tcp/{number}" for number in look.site.voicemail.values())}
    told = [port.key for port in moved if port.key in declared]
    swept = [port.key for port in moved if sweep and port.key in sweep.found and port.key not in declared]
    rest = [port.key for port in moved if port.key not in (*told, *swept)]
    said = []
    if told:
        said.append(f"The operator declared {listed(told)}.")
    if swept and sweep is not None:
        within = "" if sweep.seconds is None else f" within {_duration(sweep.seconds)}, at this scan's pace"
        whole = all(group.state is not PortState.UNMEASURED for group in look.host.swept)
        ports = "all TCP ports" if whole else "TCP ports, which could not measure all of them,"
        said.append(f"Without being told, a sweep of {ports} found {listed(swept)}{within}.")
    if rest:
        was = "was" if len(rest) == 1 else "were"
        said.append(f"{listed(rest)} {was} among the ports that this scan set out to ask.")
    return said


def _naming(moved: list[Port]) -> list[str]:
    """Whether the greeting names the product, or only something else that the port says."""
    named = [port for port in moved if class_of(port) in ALLWORX]
    greets = [port.key for port in named if _greets_by_name(port)]
    other = [port.key for port in named if port.key not in greets]
    if not named:
        return ["No greeting names the product, as far as the fingerprints know it."]
    said = []
    if greets:
        said.append(
            f"The greeting {f'on {listed(greets)} ' if len(greets) < len(moved) else ''}still names the product."
        )
    if other:
        says = "says" if len(other) == 1 else "say"
        said.append(f"What {listed(other)} {says} after the greeting still names the product.")
    return said


def _greets_by_name(port: Port) -> bool:
    """Whether the greeting is what the class rests on; it is where nothing else is told to be."""
    support = port.device.support if port.device is not None else ()
    fields = {one.field for one in support if one.says in ALLWORX}
    return not fields or any(field.endswith(".greeting") for field in fields)


def _all_shut_or_known(look: Look) -> bool:
    """Whether a sweep settled every port that could hide mail."""
    if look.host.sweep is None or look.host.path.dark is not None or not look.host.alive.proven:
        return False
    keys = look.host.sweep.found
    known = all(look.ports[key].service is not None for key in keys)
    return known and all(map(knocked_shut, look.host.swept))


def _duration(seconds: float) -> str:
    if seconds >= _LONG:
        return f"{round(seconds / 60):,} minutes"
    return f"{max(1, round(seconds))} second{'' if round(seconds) <= 1 else 's'}"
