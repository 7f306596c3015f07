"""Which cores a job runs on, and their governor."""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .runtimes import Problem
from .state import CPU, parse_cores, rank, read_cores, read_text


def choose(cores: str, root: Path = Path('/')) -> list[int]:
    """Find the cores that ``big``, ``little`` or a list such as ``0,2-3`` means.

    Big are those of the highest capacity and frequency, little those of the lowest.

    Raises:
        Problem: The device has one kind of core, or not these cores, or they are offline.
    """
    known = {core['number']: core for core in read_cores(root)}
    online = {number: core for number, core in known.items() if core['online']}
    if cores in ('big', 'little'):
        # Of a core that is offline the capacity may be known, the frequency is not.
        ranks = sorted({rank(c) for c in known.values() if c['online'] or c['capacity']})
        if len(ranks) < 2:
            raise Problem(
                f'--cores {cores}: the device has cores of one kind; give a list, such as 0'
            )
        kind = ranks[-1] if cores == 'big' else ranks[0]
        wanted = [number for number, core in known.items() if rank(core) == kind]
        wanted = [number for number in wanted if number in online] or wanted
    else:
        wanted = parse_cores(cores)
    for there, what in ((known, 'has no core'), (online, 'has switched off core')):
        missing = sorted(set(wanted) - set(there))
        if missing:
            raise Problem(f'--cores: the device {what} {", ".join(map(str, missing))}')
    return sorted(set(wanted))


def pin(cores: Sequence[int]) -> None:
    """Keep this process, and the threads that it starts from now on, on these cores.

    Raises:
        Problem: The system does not allow it.
    """
    try:
        os.sched_setaffinity(0, cores)
        if os.sched_getaffinity(0) != set(cores):
            raise OSError('it may not use all of them')
    except (OSError, AttributeError) as error:
        raise Problem(
            f'--cores: this process cannot be kept on cores {list(cores)}: {error}'
        ) from None


@contextlib.contextmanager
def governor(name: str | None, patience: float, root: Path = Path('/')) -> Iterator[None]:
    """Set the frequency governor of all cores for the time of the block; None leaves it.

    A process of its own, see :mod:`.guard`, puts it back, also where this one is killed, or hangs
    for ``patience`` seconds after its standard input has ended.

    Raises:
        Problem: The device has no governor of this name or does not allow the change.
    """
    if name is None:
        yield
        return
    numbers = [core['number'] for core in read_cores(root) if core['online']]
    paths = [root / CPU / f'cpu{n}/cpufreq/scaling_governor' for n in numbers]
    before = {str(path): read_text(path) or name for path in paths if path.is_file()}
    if not before:
        raise Problem('--set-governor: the device shows no governor')
    for path in map(Path, before):
        allowed = read_text(path.with_name('scaling_available_governors'))
        if allowed is not None and name not in allowed.split():
            raise Problem(f'--set-governor {name}: the device has {allowed}')
    code = pkgutil.get_data(__package__, 'guard.py').decode()
    job = os.dup(0)
    words = [json.dumps(before), str(os.getpid()), str(patience), str(job)]
    guard = subprocess.Popen(
        [sys.executable, '-c', code, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[job],
        start_new_session=True,
    )
    os.close(job)
    try:
        for path in before:
            try:
                Path(path).write_text(name)
            except OSError as error:
                raise Problem(
                    f'--set-governor {name}: {error.strerror}; set it as root on the device'
                ) from None
        yield
    finally:
        guard.stdin.close()
        guard.wait()
