"""Which cores a job runs on, and their governor."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from .runtimes import Problem
from .state import CPU, rank, read_cores, read_text


def choose(cores: str | Sequence[int], root: Path = Path('/')) -> list[int]:
    """Find the cores that ``'big'``, ``'little'`` or a list means.

    Big are those of the highest capacity and frequency, little those of the lowest.

    Raises:
        Problem: The device has one kind of core, or not these cores.
    """
    known = read_cores(root)
    if not isinstance(cores, str):
        missing = sorted(set(cores) - {core['number'] for core in known})
        if missing:
            raise Problem(f'--cores: the device has no core {", ".join(map(str, missing))}')
        return sorted(set(cores))
    ranks = sorted({rank(core) for core in known})
    if len(ranks) < 2:
        raise Problem(f'--cores {cores}: the device has cores of one kind; give a list, such as 0')
    wanted = ranks[-1] if cores == 'big' else ranks[0]
    return [core['number'] for core in known if rank(core) == wanted]


def pin(cores: Sequence[int]) -> None:
    """Keep this process, and the threads that it starts from now on, on these cores.

    Raises:
        Problem: The system does not allow it.
    """
    try:
        os.sched_setaffinity(0, cores)
    except (OSError, AttributeError) as error:
        raise Problem(
            f'--cores: this process cannot be kept on cores {list(cores)}: {error}'
        ) from None


@contextlib.contextmanager
def governor(name: str | None, root: Path = Path('/')) -> Iterator[None]:
    """Set the frequency governor of all cores for the time of the block; None leaves it.

    Raises:
        Problem: The device has no governor of this name or does not allow the change.
    """
    try:
        for path in [] if name is None else _governors(root):
            allowed = read_text(path.with_name('scaling_available_governors'))
            if allowed is not None and name not in allowed.split():
                raise Problem(f'--set-governor {name}: the device has {allowed}')
            value = read_text(path)
            try:
                path.write_text(name)
            except OSError as error:
                raise Problem(
                    f'--set-governor {name}: {error.strerror}; set it as root on the device'
                ) from None
            _undo.callback(path.write_text, value or name)
        yield
    finally:
        put_back()


# What puts the governors back, from the last to the first: cores of one cluster share the file, so
# that all but the first of them find what is set here.
_undo = contextlib.ExitStack()


def put_back() -> None:
    """Undo, once, what :func:`governor` has set; from any thread, where its block never ends."""
    _undo.close()


def _governors(root: Path) -> list[Path]:
    paths = sorted((root / CPU).glob('cpu[0-9]*/cpufreq/scaling_governor'))
    if not paths:
        raise Problem('--set-governor: the device shows no governor')
    return paths
