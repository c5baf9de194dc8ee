"""Makes the README's pictures from a finished demo folder: ``make pictures``. Needs Debian's Chromium.

- docs/report.png: the top of the exposed server's report, as a browser shows it;
- docs/terminal.svg: what a terminal shows of the same scan.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from browser import WHY_NOT, shown, started
from PIL import Image
from rich.console import Console

from exposure_scan.report import load_scan, summary

HERE = Path(__file__).parent
SITE = "exposed-server"
WIDTH, HEIGHT = 1280, 1500  # of the report's picture
COLUMNS = 100
MOST_BYTES = 250_000


def report_picture(page: Path) -> bytes:
    """The top of a report as a PNG of few colours."""
    with started() as browser, shown(browser, page, width=WIDTH, height=HEIGHT) as view:
        taken = view.screenshot()
    small = io.BytesIO()
    Image.open(io.BytesIO(taken)).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(
        small, "PNG", optimize=True
    )
    return small.getvalue()


def terminal_picture(scan: Path) -> str:
    """The terminal's summary of a scan as an SVG, the same for the same scan."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(summary(load_scan(scan.read_text("utf-8"))))
    drawn = console.export_svg(title=f"exposure-scan: {SITE}", unique_id="terminal")
    # Rich's drawing asks for a font from elsewhere; without that the reader's own monospaced one is taken.
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)


def main() -> None:
    """Write both pictures.

    Raises:
        SystemExit: there is no demo, no browser, or the picture came out too big.
    """
    if len(sys.argv) != 2:
        raise SystemExit("usage: make_pictures.py DEMO-FOLDER")
    folder = Path(sys.argv[1], SITE)
    if not (folder / "report.html").is_file():
        raise SystemExit(f"There is no {folder}/report.html; run `make demo` first.")
    if WHY_NOT:
        raise SystemExit(f"No picture: {WHY_NOT}.")
    taken = report_picture(folder / "report.html")
    if len(taken) > MOST_BYTES:
        raise SystemExit(f"The report's picture has {len(taken)} bytes; more than {MOST_BYTES} are too many.")
    (HERE / "report.png").write_bytes(taken)
    (HERE / "terminal.svg").write_text(terminal_picture(folder / "scan.json"), "utf-8")


if __name__ == "__main__":
    main()
