"""The command on files that other scanners wrote: what Nmap saw, judged as a scan of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .shared import GO, INCONCLUSIVE, NO_GO, DeviceWord, Packs, console, known


def import_nmap(
    file: Annotated[Path, typer.Argument(metavar="FILE.xml", help="What Nmap wrote with -oX.")],
    address: Annotated[
        list[str] | None,
        typer.Option("--address", help="The site's address, where the file holds several; may be given often."),
    ] = None,
    device: Annotated[
        DeviceWord | None, typer.Option(help="What stands there, declared by you: nobody can see it all from outside.")
    ] = None,
    expect: Annotated[
        str | None, typer.Option(help="Services meant to be open, as udp/5060,tcp/443.", metavar="LIST")
    ] = None,
    voicemail_ports: Annotated[
        str | None, typer.Option(help="Where voicemail was moved, as smtp=2525,imap=1143.", metavar="LIST")
    ] = None,
    present: Annotated[
        str | None,
        typer.Option(help="Who confirmed that this address is the live site, and how; for sites that stay silent."),
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", help="Write the scan as JSON; - is standard output.", metavar="FILE")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the HTML report.", metavar="FILE")] = None,
    evidence: Annotated[Path | None, typer.Option(help="Write the bundle that `verify` reads.", metavar="FILE")] = None,
    packs: Packs = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the verdict line only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print every port and every practice.")] = False,
) -> None:
    """Judge what Nmap saw, from its XML; nothing is sent."""
    from exposure_scan import evidence as files
    from exposure_scan import report, scope, sweep
    from exposure_scan.model import Problem, Verdict
    from exposure_scan.sweep import imported

    words: scope.Words = {
        "device": device.value if device else None,
        "expect": expect,
        "voicemail_ports": voicemail_ports,
        "present": present,
    }
    for path in (html, evidence, None if json_file in (None, "-") else Path(json_file)):
        if path is not None:
            files.check_writable(path)
    try:
        with file.open("rb") as opened:
            read = imported.from_nmap(opened, file.name, addresses=address or (), known=known(packs), **words)
    except OSError as error:
        raise Problem(f"{file} cannot be read ({error.strerror}); give a file that Nmap wrote with -oX.") from None
    document = read.scan.to_json()
    if evidence is not None:
        sweep.write_bundle(evidence, sweep.Result(read.scan, None))
    if json_file == "-":
        typer.echo(document, nl=False)
    else:
        if json_file is not None:
            files.write_file(Path(json_file), document)
        console().print(report.summary(read.scan, quiet=quiet, verbose=verbose))
    if not quiet:
        for note in read.notes:
            typer.echo(f"exposure-scan: {report.terminal_text(note, 400)}", err=True)
    if html is not None:
        files.write_file(html, sweep.render(read.scan, "html"))
    raise typer.Exit({Verdict.GO: GO, Verdict.NO_GO: NO_GO, Verdict.INCONCLUSIVE: INCONCLUSIVE}[read.scan.verdict])
