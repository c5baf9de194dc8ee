"""How many sockets this process may have open: the system's limit on descriptors, raised as far as it lets us."""

from __future__ import annotations

import os
import resource
from functools import cache

_SPARE = 64  # descriptors left to the rest of the program, or half of them where they are few
_MOST_SOCKETS = 1024
_SUPPOSED = 16
_MOST = 65_536  # descriptors; a hard limit may be "infinity" or a thousand million, and nobody needs those


def raise_descriptors() -> int:
    """Raise the soft limit on descriptors (RLIMIT_NOFILE) to the hard one, at most 65,536; a higher one stays.

    It never fails: where the system refuses, the limit stays what it was. `give_back` keeps child processes
    out of it.

    Returns:
        How many descriptors this process may still open, those in use not counted; 0 or more.
    """
    _before()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(_bounded(hard), _MOST)
    if _bounded(soft) < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # a sandbox may forbid it
            wanted = soft
    else:
        wanted = _bounded(soft)
    return max(0, min(wanted, _MOST) - _in_use())


def allowed_sockets() -> int:
    """How many sockets a scan may hold at once, so that the rest of the program keeps some descriptors."""
    free = raise_descriptors()
    return max(1, min(free - min(_SPARE, free // 2), _MOST_SOCKETS))


def give_back(child: int) -> None:
    """Give a child process the soft limit that this process was started with.

    A program that counts on 1,024 descriptors (select(2)) may misbehave with more. To be called right after the
    start of the child, with its process id; a child that has ended meanwhile is no error.
    """
    soft = _before()
    try:
        hard = resource.prlimit(child, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(child, resource.RLIMIT_NOFILE, (soft, hard))
    except (OSError, ValueError):
        return


@cache
def _before() -> int:
    """The soft limit at the first question, which is before it was raised."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _bounded(limit: int) -> int:
    return _MOST if limit == resource.RLIM_INFINITY else limit


def _in_use() -> int:
    """How many descriptors are open, as /proc has it; without it a few are supposed."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # less the one that lists them
    except OSError:
        return _SUPPOSED
