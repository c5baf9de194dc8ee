"""Scan each practice site once and keep its packets and its JSON here. Run by `make pcaps`, as root.

Without the right to open a packet socket there would be no packets; inside the private network the
caller has it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from exposure_scan import lab, scope, sweep

HERE = Path(__file__).parent


async def main() -> None:
    """Write <site>.pcap and <site>.json for every practice site."""
    with lab.running():
        async for order, result in sweep.scan_sites(scope.read_sites_file(lab.sites_file()).orders):
            if isinstance(result, Exception):
                raise result
            assert result.capture is not None
            (HERE / f"{order.site.name}.pcap").write_bytes(result.capture)
            (HERE / f"{order.site.name}.json").write_text(result.scan.to_json())


if __name__ == "__main__":
    assert lab.inside(), "run this by `make pcaps`: it scans, so it must run where no way leads out"
    asyncio.run(main())
