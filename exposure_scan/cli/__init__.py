"""Words -> one call -> exit code. The only print, the only exit.

Results go to standard output, messages to standard error, progress only to a terminal. Exit codes
are the design's: 0 go, 1 no-go, 3 inconclusive, 2 wrong use, 4 the scanner itself failed.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .evidence import evidence_command
from .fingerprint import fingerprint_app
from .history import add_history
from .others import import_nmap, replay_command
from .output import (
    DeviceOption,
    EvidenceFile,
    Expect,
    HtmlFile,
    JsonFile,
    Output,
    Present,
    Quiet,
    Verbose,
    VoicemailPorts,
    site_words,
)
from .saved import report_command, verify
from .screen import complain, say, show, start_log, table
from .shared import (
    FAILED,
    INTERRUPTED,
    WRONG_USE,
    Packs,
    Templates,
    known,
    progress,
    sites_file,
)
from .sweep import schedule_command, sweep_command
from .vantage import vantage_app

if TYPE_CHECKING:
    from exposure_scan import scope, sweep

app = typer.Typer(
    name="exposure-scan",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"auto_envvar_prefix": "EXPOSURE_SCAN", "help_option_names": ["-h", "--help"]},
    help="Checks from outside what an Allworx phone system shows to the Internet, and judges it against the "
    "vendor's security bulletin. Scans only addresses that somebody authorized.",
)
sites_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The sites file.")
app.add_typer(sites_app, name="sites")
app.add_typer(fingerprint_app, name="fingerprint")
app.add_typer(vantage_app, name="vantage")


def run() -> None:
    """Run the command line and exit with the design's codes; nobody sees a traceback of wrong use."""
    gc.set_threshold(200_000, 20, 20)  # what is loaded, and what many sites hold, stays: looking at it costs a third
    try:
        app(standalone_mode=True)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # what typer makes of Ctrl-C
            complain("stopped; no file was left half written.")
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:  # the last spot: wrong use has its sentences, and what else arrives here is ours
        from exposure_scan.model import Problem

        if isinstance(error, Problem):
            complain(*error.sentences)
            sys.exit(WRONG_USE)
        complain(
            f"the scanner itself failed ({type(error).__name__}: {error}). This says nothing about the site. "
            "Run again with EXPOSURE_SCAN_DEBUG=1 for the trace."
        )
        if os.environ.get("EXPOSURE_SCAN_DEBUG"):
            logging.getLogger("exposure_scan").error("the trace", exc_info=error)
        sys.exit(FAILED)


def _version(wanted: bool) -> None:
    if wanted:
        from exposure_scan import __version__

        say(f"exposure-scan {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _wanted: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, show_envvar=False, help="Print the version and end."
        ),
    ] = False,
) -> None:
    start_log()


# --- scan ----------------------------------------------------------------------------------------


@app.command(epilog="Example: exposure-scan scan 198.51.100.10 --authorized-by 'A. Owner, by mail' --html report.html")
def scan(
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="[TARGET]...", help="Addresses, networks or names.")
    ] = None,
    site: Annotated[str | None, typer.Option("--site", help="Scan this site of the sites file.")] = None,
    sites: Annotated[Path | None, typer.Option("--sites", help="The sites file (TOML).")] = None,
    authorized_by: Annotated[
        str | None, typer.Option(help="Who consented to this scan; required without a sites file.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Where the consent is recorded: a ticket, a mail.")] = None,
    until: Annotated[str | None, typer.Option(help="Last day of the authorization, as 2026-12-31.")] = None,
    device: DeviceOption = None,
    expect: Expect = None,
    voicemail_ports: VoicemailPorts = None,
    present: Present = None,
    ports: Annotated[
        str, typer.Option(help="default, wide (all TCP ports), or a list as tcp/25,udp/5060.")
    ] = "default",
    json_file: JsonFile = None,
    html: HtmlFile = None,
    templates: Templates = None,
    evidence: EvidenceFile = None,
    require_declarations: Annotated[
        bool, typer.Option("--require-declarations", help="No go while a practice is undeclared.")
    ] = False,
    internal: Annotated[
        bool, typer.Option("--internal", help="Allow private addresses; the report then says: no outside view.")
    ] = False,
    second_opinion: Annotated[
        bool,
        typer.Option(
            "--second-opinion", help="Have the installed Nmap look at the same ports afterwards, and compare."
        ),
    ] = False,
    packs: Packs = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Scan one site from outside and say GO, NO-GO or INCONCLUSIVE."""
    import asyncio

    from exposure_scan import scope, sweep, vantage
    from exposure_scan.sweep import vantage as checks

    output = Output(json_file, html, evidence, quiet, verbose, templates)
    words = site_words(device, expect, voicemail_ports, present)
    words["internal"] = internal
    words["require_declarations"] = require_declarations
    order = _order(targets or [], site, sites, authorized_by, reference, until, words)
    order = checks.looking_from(order, vantage.stored_path(), sweep.now())
    fingerprints = known(packs)
    asked = ports if ports in ("default", "wide") else scope.parse_services(ports)
    output.check()
    with progress(silent=quiet or json_file == "-") as notice:
        scanning = sweep.scan_site(order, ports=asked, known=fingerprints, notice=notice, second_opinion=second_opinion)
        result = asyncio.run(scanning)
    output.write(result)


def _order(
    targets: list[str],
    site: str | None,
    sites: Path | None,
    authorized_by: str | None,
    reference: str | None,
    until: str | None,
    words: scope.Words,
) -> scope.Order:
    from exposure_scan import scope
    from exposure_scan.model import Problem

    if site is not None:
        if targets:
            raise Problem("Give either targets or --site, not both; the sites file names the site's targets.")
        if sites is None:
            raise Problem("--site needs the sites file: add --sites FILE.")
        if authorized_by is not None or until is not None or reference is not None:
            raise Problem(
                "The authorization of a site is recorded in the sites file; leave out --authorized-by, --reference "
                "and --until, or scan the address without --site."
            )
        return scope.with_words(sites_file(sites).order(site), **words)
    if sites is not None:
        raise Problem("--sites needs --site NAME; or leave --sites out and give targets.")
    return scope.order_from_words(targets, authorized_by=authorized_by, reference=reference, until=until, **words)


app.command("import-nmap", epilog="Example: exposure-scan import-nmap nmap.xml")(import_nmap)
app.command("replay", epilog="Example: exposure-scan replay capture.pcap --address 198.51.100.10")(replay_command)


# --- demo ----------------------------------------------------------------------------------------


@app.command(epilog="Example: exposure-scan demo --out demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the reports.", metavar="DIR")] = Path("exposure-scan-demo"),
) -> None:
    """Scan the embedded practice site for real, inside a private network that leads nowhere."""
    import asyncio

    from exposure_scan import files, lab, report, sweep
    from exposure_scan.model import Problem
    from exposure_scan.model.text import file_name

    if not lab.inside():
        try:
            code = lab.enter_and_run([sys.executable, "-m", "exposure_scan", "demo", "--out", str(out)])
        except lab.NamespaceRefused as refused:
            raise Problem(str(refused)) from None
        raise typer.Exit(code)
    files.make_folder(out, "choose another with --out")
    files.check_writable(out / "index.html")

    async def scan_all() -> list[tuple[str, sweep.Result]]:
        done = []
        async for order, result in sweep.scan_sites(sites_file(lab.sites_file()).orders, notice=notice):
            if isinstance(result, Exception):
                raise result
            done.append((file_name(order.site.name), result))
        return sorted(done, key=lambda pair: pair[0])

    with lab.running(), progress() as notice:
        results = asyncio.run(scan_all())
    for name, result in results:
        sweep.write_site(out / name, result)
        show(report.summary(result.scan, quiet=True))
    files.write_file(out / "index.html", sweep.render_index([(name, result.scan) for name, result in results]))
    say("", f"Reports: {out / 'index.html'}")
    say(*(f"  {out / name}: report.html  scan.json  evidence.zip" for name, _ in results))


# --- all sites -----------------------------------------------------------------------------------

app.command("sweep", epilog="Example: exposure-scan sweep --sites sites.toml --all --no-mail")(sweep_command)
add_history(app)
app.command("schedule", epilog="Example: exposure-scan schedule --sites sites.toml")(schedule_command)


# --- saved scans ---------------------------------------------------------------------------------

app.command("report", epilog="Example: exposure-scan report scan.json --format html --out report.html")(report_command)
app.command("verify", epilog="Example: exposure-scan verify evidence.zip")(verify)
app.command("evidence", epilog="Example: exposure-scan evidence evidence.zip --finding sip.not-reachable")(
    evidence_command
)


# --- what it knows -------------------------------------------------------------------------------


@sites_app.command("check", epilog="Example: exposure-scan sites check --sites sites.toml")
def sites_check(
    sites: Annotated[Path, typer.Option("--sites", help="The sites file (TOML).", metavar="FILE")],
) -> None:
    """Judge the sites file without sending a packet."""
    read = sites_file(sites)
    for order in read.orders:
        until = order.authorization.until
        say(
            f"{order.site.name}: {len(order.site.targets)} target(s), authorized by {order.authorization.by}"
            + (f" until {until:%Y-%m-%d}" if until else "")
        )
    say(f"{sites}: {len(read.orders)} site(s), no mistake.")


@app.command(epilog="Example: exposure-scan practices")
def practices() -> None:
    """List the bulletin's practices, for what they are, how each is known and how much it weighs."""
    from exposure_scan import assess

    rows = ((one.id, ", ".join(one.applies_to), one.known, one.severity) for one in assess.practices())
    show(table(("Practice", "For", "Known", "Severity"), rows))
