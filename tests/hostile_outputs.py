"""Every output of the command line about the hostile host: what it prints, the errors, and the files that it writes."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import mail_server
import nmap_files
import pytest
from hostile_host import ADDRESS, CUT, SCRIPT, WORDS, running

from exposure_scan import report
from exposure_scan.cli import run
from exposure_scan.report import load_scan

# A sites file takes what prints; that is hostile enough.
SITE = "=cmd|' ../../x [bold red]y[/] <b>{{7*7}}</b> %n | `c` [a](http://evil.example) \"; --"
SITES = f"""
[partner]
name = '''{SITE}'''
mail = "help@partner.example"
[mail]
host = "localhost"
port = 2525
security = "none"
sender = "reports@partner.example"
[[site]]
name = '''{SITE}'''
targets = ["{ADDRESS}"]
report_to = ["owner@customer.example"]
[site.authorization]
by = '''{SITE}'''
"""
FORMATS = {"html": "html", "mail-html": "html", "mail-text": "txt", "json": "json", "csv": "csv", "pdf": "pdf"}
FORMATS |= {"markdown": "md", "sarif": "json", "junit": "xml"}


class Shelf:
    """What was written and printed, by a name that ends as files of its kind do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept: dict[str, bytes] = {}

    def run(self, *words: str, printed: str = "txt", typed: str = "", code: int | None = None) -> None:
        """A command as it is typed; what it prints is kept."""
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.folder)
            patch.setenv("COLUMNS", "100")
            patch.setattr(sys, "argv", ["exposure-scan", *words])
            patch.setattr(sys, "stdin", io.StringIO(typed))
            with pytest.raises(SystemExit) as ended:
                run()
        name = " ".join(words)[:120]
        said = {f"{name}.{printed}": out, f"{name}, errors.txt": err}
        found = {name: stream.buffer.getvalue() for name, stream in said.items()}
        assert code is None or ended.value.code == code, found
        self.kept |= {name: data for name, data in found.items() if data}

    def keep_files(self) -> None:
        """Keep all files that were written into the folder."""
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and path.suffix in (".json", ".html", ".csv", ".eml", ".toml", ".md", ".xml", ".pdf"):
                self.kept[str(path.relative_to(self.folder))] = path.read_bytes()

    def of(self, *kinds: str) -> Mapping[str, bytes]:
        return {name: data for name, data in self.kept.items() if name.rpartition(".")[2] in kinds}


def forged(bundle: Path, to: Path, *, ids: bool) -> bytes:
    """A bundle with hostile words, and hostile ids, whose sums are right: anybody can make one. Its JSON comes back."""
    with zipfile.ZipFile(bundle) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist() if info.filename != "SHA256SUMS"}
    scan = json.loads(parts["scan.json"])
    for piece in scan["evidence"] if ids else ():
        piece |= {"id": piece["id"] + WORDS[0], "reason": WORDS[0]}
    for finding in scan["findings"]:
        finding |= {"because": WORDS[0], "title": WORDS[1]}
        if ids:
            finding |= {"practice": finding["practice"] + WORDS[0], "host": WORDS[2]}
    scan["site"]["name"] = WORDS[0]
    if ids:
        scan["scanner"]["version"] = WORDS[0]
    parts["scan.json"] = json.dumps(scan).encode()
    sums = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in parts.items()]
    with zipfile.ZipFile(to, "w") as archive:
        for name, data in {**parts, "SHA256SUMS": "".join(sums).encode()}.items():
            archive.writestr(name, data)
    return parts["scan.json"]


def everything(folder: Path) -> Shelf:
    """All that the command line says and writes of the hostile host, and of files that hold its words."""
    kept = Shelf(folder)
    _of_the_host(kept)
    _of_saved_scans(kept)
    _of_what_others_wrote(kept)
    _of_packs(kept)
    kept.keep_files()
    return kept


_BY = ("--authorized-by", WORDS[1])
_DB = ("--db", "sqlite:///history.sqlite3")


def _of_the_host(kept: Shelf) -> None:
    """What is said while the host answers, and a mail server that is as hostile."""
    saved = ("--json", "scan.json", "--html", "report.html", "--evidence", "evidence.zip")
    with running(), mail_server.serving() as mail:
        mail.always = {"MAIL": f"550 5.7.1 {CUT} {SCRIPT}".encode("ascii", "ignore").decode().replace("\0", "")}
        (kept.folder / "sites.toml").write_text(SITES.replace("2525", str(mail.port)), "utf-8")
        kept.run("scan", ADDRESS, *_BY, *saved, code=1)
        kept.run("fingerprint", "learn", ADDRESS, "--class", "px", "--model", "Px", *_BY, "--packs", "packs", code=0)
        for more in (("--dry-run",), ()):
            kept.run("sweep", "--sites", "sites.toml", "--all", "--out", "out", *_DB, *more, code=1)
    for command in ("history", "changes"):
        kept.run(command, *_DB, SITE, code=0)
        kept.run(command, *_DB, WORDS[0], code=2)
    kept.run("sites", "check", "--sites", "sites.toml", code=0)
    kept.run("schedule", "--sites", "sites.toml", code=0)
    kept.run("scan", "--sites", "sites.toml", "--site", WORDS[0], code=2)
    kept.run("scan", WORDS[0], *_BY, code=2)
    (kept.folder / "sites.toml").unlink()  # ours


def _of_saved_scans(kept: Shelf) -> None:
    for format_, kind in FORMATS.items():
        kept.run("report", "scan.json", "--format", format_, printed=kind, code=0)
    with zipfile.ZipFile(kept.folder / "evidence.zip") as archive:
        (kept.folder / "capture.pcap").write_bytes(archive.read("capture.pcap"))
    replay = ("replay", "capture.pcap", "--address", ADDRESS)
    kept.run(*replay, "--verbose", "--html", "replay.html", code=1)
    kept.run(*replay, "--quiet", code=1)
    kept.run(*replay, "--json", "-", printed="json", code=1)
    kept.run("evidence", "evidence.zip", code=0)
    kept.run("evidence", "evidence.zip", "--finding", "sip.not-reachable", code=0)
    kept.run("evidence", "evidence.zip", "--finding", WORDS[0], code=2)
    kept.run("evidence", "evidence.zip", "--customer-copy", "copy.zip", code=0)
    for words in (("evidence.zip",), ("evidence.zip", "--rules", "today"), ("copy.zip",)):
        kept.run("verify", *words, code=0)


def _of_what_others_wrote(kept: Shelf) -> None:
    """Bundles, scans, and Nmap's XML that anybody can have made. They are no outputs of ours, and do not stay."""
    folder = kept.folder
    (folder / "forged.json").write_bytes(forged(folder / "evidence.zip", folder / "forged.zip", ids=True))
    forged(folder / "evidence.zip", folder / "told.zip", ids=False)
    (folder / "broken.json").write_text(json.dumps({"schema": WORDS[0], WORDS[1]: WORDS[2]}))
    with zipfile.ZipFile(folder / "more.zip", "w") as archive, zipfile.ZipFile(folder / "evidence.zip") as whole:
        for info in whole.infolist():
            archive.writestr(info, whole.read(info))
        archive.writestr("../" + WORDS[0].replace("\0", ""), "x")
    for saved in ("forged.json", "forged.zip"):
        kept.run("evidence", saved, code=0)
        kept.run("evidence", saved, "--finding", f"sip.not-reachable{WORDS[0]}", code=0)
    for bundle in ("forged.zip", "told.zip", "more.zip"):
        kept.run("verify", bundle, code=1)
    for format_, kind in FORMATS.items():
        kept.run("report", "forged.json", "--format", format_, printed=kind, code=0)
    kept.run("report", "broken.json", code=2)
    told = "".join(char for char in WORDS[0] if char in "\x7f\x85\u2028\u202e\x9b" or " " <= char < "\x7f")
    service = nmap_files.service("http", product=told, version=WORDS[1], extrainfo=WORDS[2])
    port = nmap_files.port("tcp/80", "open", "syn-ack", service + nmap_files.script("http-title", told))
    for name, to in (("nmap.xml", "nmap.json"), (f"{told[:60].replace('/', '')}.xml", "-")):
        (folder / name).write_bytes(nmap_files.document(nmap_files.host([port], ADDRESS)))
        printed = "json" if to == "-" else "txt"
        kept.run("import-nmap", name, "--verbose", "--json", to, "--html", "nmap.html", printed=printed)
        (folder / name).unlink()
    scans = [(name, load_scan((folder / f"{name}.json").read_text("utf-8"))) for name in ("scan", "forged")]
    page = report.render_index([(SITE, scans[0][1]), (WORDS[2], scans[1][1])])
    (folder / "index.html").write_text(page, "utf-8")
    for name in ("forged.json", "broken.json"):
        (folder / name).unlink()


def _of_packs(kept: Shelf) -> None:
    (pack,) = (kept.folder / "packs").glob("*.toml")
    kept.run("fingerprint", "check", str(pack.relative_to(kept.folder)), code=0)
    banner = json.dumps({"field": "http.title", "value": "\x7f" + WORDS[0]})
    kept.run("fingerprint", "test", typed=banner, printed="json", code=0)
    marked = pack.read_text("utf-8").replace('origin = "', 'origin = "\\u001b[35;7m\\u202e', 1)
    damaged = f"[pack]\nname = 'evil'\norigin = {json.dumps(WORDS[0])}\n[[fingerprint]]\n{json.dumps(WORDS[2])} = 'x'\n"
    for name, text, code in (("marked.txt", marked, 0), ("damaged.txt", damaged, 1)):
        (kept.folder / name).write_text(text, "utf-8")
        kept.run("fingerprint", "check", name, code=code)
