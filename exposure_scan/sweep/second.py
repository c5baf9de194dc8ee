"""A second opinion: Nmap asks the ports that this scan asked, right after it, and both are compared.

Nmap runs in a child process with a deadline, one address at a time, at the address's pace, and only while the
consent lasts. Whatever goes wrong is told in the opinion; a scan never fails for want of one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import exposure_scan
from exposure_scan.model import Host, Opinion, Problem, Scan, SecondOpinion, Target, Verdict
from exposure_scan.model.text import within
from exposure_scan.transport import Gate
from exposure_scan.transport.children import environment
from exposure_scan.transport.limits import give_back

log = logging.getLogger("exposure_scan")

SECONDS = 60  # that Nmap may take for one address
_GRACE = 10.0  # seconds beyond that, for the start and the end of two processes
_MOST_OUTPUT = 16 * 1024 * 1024
_MOST_SAID = 4096
_CHILD = "exposure_scan.nmap.child"
_NO_UDP = "Without the right to make packets (CAP_NET_RAW), Nmap was asked about TCP only."


class _Failed(Exception):  # noqa: N818 - it is Nmap's
    """Nmap gave no result; the text is one sentence."""


async def second_opinion(gate: Gate, pairs: Sequence[tuple[Target, Host]], seconds: int = SECONDS) -> SecondOpinion:
    """Ask Nmap about the ports of these hosts, and compare.

    Args:
        gate: has the targets admitted, and sends nothing to them meanwhile.
        pairs: each target with the host as our scan judged it.
        seconds: that Nmap may take for one address.
    """
    from exposure_scan import nmap  # with its XML: only a scan that wants a second opinion needs it

    loop = asyncio.get_running_loop()
    begun = loop.time()
    privileged = _may_make_packets(gate)
    by = "Nmap"
    words: tuple[str, ...] = ()
    rows: list[Opinion] = []
    troubles = [] if privileged else [_NO_UDP]
    for target, host in pairs:
        try:
            async with gate.consented(target):
                xml = await _ask(target, host, privileged, seconds)
            read = nmap.read_nmap(BytesIO(xml), "Nmap's answer", (str(target),))
        except (_Failed, Problem, OSError) as error:
            sentence = error.sentences[0] if isinstance(error, Problem) else str(error)
            if isinstance(error, OSError):
                sentence = f"Nmap could not be started ({error.strerror}); nothing is wrong with the scan."
            troubles.append(f"{target}: {sentence}")
            log.debug("no second opinion on %s", target, exc_info=error)
            rows += nmap.compared(host, None)
            continue
        troubles += read.notes
        by, words = f"Nmap {read.version}", words or tuple(read.args.split())
        rows += nmap.compared(host, read.hosts.get(str(target)))
    return SecondOpinion(
        by=by,
        words=words,
        seconds=round(loop.time() - begun, 1),
        ports=tuple(rows),
        trouble=" ".join(dict.fromkeys(troubles)) or None,
    )


def weighed(scan: Scan) -> Scan:
    """The scan with its second opinion considered: no GO stands where Nmap found open what we did not.

    To be called wherever a scan is judged, also when it is derived again; a scan that was weighed stays the same.
    """
    if scan.second_opinion is None:
        return scan
    from exposure_scan import nmap

    doubts = nmap.contradicted(scan.second_opinion)
    if not doubts or scan.verdict is Verdict.NO_GO:
        return scan
    because = tuple(dict.fromkeys((*doubts, *(() if scan.verdict is Verdict.GO else scan.because))))
    return scan.model_copy(update={"verdict": Verdict.INCONCLUSIVE, "because": because})


def _may_make_packets(gate: Gate) -> bool:
    """Whether Nmap can send SYNs and datagrams of its own: it goes by the user, the kernel by the capability."""
    if os.geteuid() != 0:
        return False
    sock = gate.packet_capture()
    if sock is None:
        return False
    sock.close()
    return True


async def _ask(target: Target, host: Host, privileged: bool, seconds: int) -> bytes:
    """Nmap's XML about the ports of the host.

    Raises:
        _Failed: there is none.
    """
    order = {
        "address": str(target),
        "tcp": [port.port for port in host.ports if port.transport == "tcp"],
        "udp": [port.port for port in host.ports if port.transport == "udp"],
        "rate": target.packets_per_second,
        "seconds": seconds,
        "privileged": privileged,
    }
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        _CHILD,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(exposure_scan.__file__).parent.parent,
        env=environment(),
        start_new_session=True,  # a group of its own, so that Nmap goes when the child goes
    )
    give_back(child.pid)  # before it hears its order
    try:
        async with asyncio.timeout(seconds + _GRACE):
            return await _answer(child, json.dumps(order).encode())
    except TimeoutError:
        raise _Failed(f"Nmap was not done within {seconds + _GRACE:.0f} seconds and was stopped.") from None
    finally:
        await asyncio.shield(_ended(child))


async def _answer(child: asyncio.subprocess.Process, order: bytes) -> bytes:
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        child.stdin.write(order)
        await child.stdin.drain()
        child.stdin.close()
    xml, said = await asyncio.gather(_read(child.stdout, _MOST_OUTPUT), _read(child.stderr, _MOST_SAID))
    if len(xml) > _MOST_OUTPUT:
        raise _Failed("Nmap said more than it can have to say and was stopped.")
    if not xml:
        lines = said.decode("utf-8", "replace").splitlines()
        last = within(lines[-1], 300) if lines else ""
        raise _Failed(last or "Nmap gave no answer and did not say why.")
    return xml


async def _read(stream: asyncio.StreamReader, most: int) -> bytes:
    """All that comes; a little more than `most` bytes where it is too much, and the rest is not kept."""
    data = b""
    while piece := await stream.read(65536):
        if len(data) <= most:
            data += piece
        elif most == _MOST_OUTPUT:
            break
    return data


async def _ended(child: asyncio.subprocess.Process) -> None:
    """Nothing of the child is left, whatever it was doing."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # its group may outlive it
    for stream in (child.stdout, child.stderr):
        while stream is not None and await stream.read(65536):  # or the pipe would never be closed
            pass
    await child.wait()
