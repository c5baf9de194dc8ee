"""The two commands of the vantage check: one for each end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .screen import complain, say, show, table
from .shared import GO, INCONCLUSIVE, NO_GO, progress

if TYPE_CHECKING:
    from exposure_scan import vantage
    from exposure_scan.sweep import vantage as checks

vantage_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Whether what a scan asks can leave this network at all."
)

_KeyFile = Annotated[
    Path | None, typer.Option(help="The shared key; else EXPOSURE_SCAN_VANTAGE_KEY holds it.", metavar="FILE")
]


@vantage_app.command("serve", epilog="Example: exposure-scan vantage serve --key-file vantage.key")
def serve(
    key_file: _KeyFile = None,
    listen: Annotated[
        str | None, typer.Option(help="Listen on this address only; by default on all.", metavar="ADDRESS")
    ] = None,
) -> None:
    """Answer on every port of the plan, on a machine of your own, until Ctrl-C.

    It answers only to who holds the shared key.
    """
    import asyncio

    from exposure_scan import vantage
    from exposure_scan.sweep import vantage as checks

    def ready(served: vantage.Serving) -> None:
        complain(*(f"not served, {line}" for line in served.refused))
        say(f"Ready on {len(served.ports)} ports: {', '.join(served.ports)}")

    asyncio.run(checks.serve(vantage.read_key(key_file), listen, ready))


@vantage_app.command(
    "check",
    epilog="Example: exposure-scan vantage check 198.51.100.20 --key-file vantage.key --authorized-by 'our machine'",
)
def check(
    host: Annotated[str, typer.Argument(metavar="HOST", help="Your machine that runs `vantage serve`.")],
    authorized_by: Annotated[str | None, typer.Option(help="Who consented to this; required.")] = None,
    key_file: _KeyFile = None,
) -> None:
    """Find out which ports cannot leave this network, or are answered by somebody else, and keep it for scans."""
    import asyncio

    from exposure_scan import files, scope, vantage
    from exposure_scan.sweep import vantage as checks

    order = scope.order_from_words([host], authorized_by=authorized_by)
    key = vantage.read_key(key_file)
    path = vantage.stored_path()
    files.make_folder(path.parent, "set XDG_STATE_HOME")
    files.check_writable(path)
    with progress() as notice:
        done = asyncio.run(checks.check(order, key, notice=notice))
    _print(done)
    if not done.proven:
        raise typer.Exit(INCONCLUSIVE)
    done.keep(path)
    say(f"Kept for scans from here, for {vantage.FRESH.days} days: {path}")
    raise typer.Exit(GO if all(one.reach is checks.Reach.OK for one in done.found) else NO_GO)


def _print(done: checks.Check) -> None:
    from exposure_scan.sweep.vantage import Reach

    several = len({one.address for one in done.found}) > 1
    rows = ((one.port, one.reach, f"{one.address}: {one.because}" if several else one.because) for one in done.found)
    show(table(("Port", "From here", "What happened"), rows))
    if not done.proven:
        say(
            "",
            f"Nobody at {done.host} proved to hold the key. That says nothing about the ports, and nothing was kept.",
            "Is `vantage serve` running there, with the same key, and does that machine's own firewall let it "
            "be asked?",
        )
        return
    for address in done.left_aside:
        say(f"{address} proved nothing and is left aside: this network may lack its family of addresses.")
    blind, forged = done.ports(Reach.BLIND), done.ports(Reach.FORGED)
    say("", f"{len(done.ports(Reach.OK))} ports can leave this network, seen as {', '.join(done.seen)}.")
    if blind:
        say(f"{len(blind)} cannot, or are not served there: {', '.join(blind)}.")
    if forged:
        say(f"{len(forged)} are answered by somebody else, or another program there: {', '.join(forged)}.")
    if blind or forged:
        say("Scans from here call these ports unmeasured, whatever they see there.")
