"""Running steps, beside other processes that share the folder, on this machine or on others."""

import contextlib
import ctypes
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from mmshuffle.engine import files
from mmshuffle.errors import UserError

from .plan import Step, missing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# Seconds after which a step that another process has is looked at again.
PAUSE = 10.0
_PR_SET_PDEATHSIG = 1


def check_mark(mark: Path, facts: Any, used: bool = False) -> None:
    """Keep apart what would be taken for the results of other options.

    The file ``mark`` has to say ``facts`` of the results in its folder, or to be missing where they
    are None; ``used`` tells whether there are results that a missing file says nothing of.
    """
    found = files.read_json(mark) if mark.is_file() else None
    if found != facts and (found is not None or used):
        see = f', see {mark}' if found is not None else ''
        raise UserError(
            f'work dir {mark.parent} is of another config, or of other options{see}: give another '
            '--work-dir, or the same options'
        )


def run(rows: Sequence[Sequence[Step]], folder: Path) -> list[str]:
    """Run what is missing, the first rows first; what another process does is left to it.

    Args:
        rows: The steps of each row, of which several rows may share one.
        folder: Shared by all processes.

    Returns:
        Names of the steps that failed; what needs them was not run.
    """
    failed: list[str] = []
    waiting = False
    while True:
        left = [steps for row in rows if (steps := missing(row))]
        left = [steps for steps in left if not any(step.name in failed for step in steps)]
        if not left:
            return failed
        for step, *_ in left:
            with claimed(folder / '.claims' / step.name.replace('/', '.')) as claim:
                if claim is None:
                    continue
                if not step.done and not _succeeds(step, claim):
                    failed.append(step.name)
                waiting = False
                break
        else:
            if not waiting:
                names = ', '.join(dict.fromkeys(step.name for step, *_ in left))
                print(f'waiting for other processes, which do: {names}', file=sys.stderr)
            waiting = True
            time.sleep(PAUSE)


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[int | None]:
    """Lock a file that stands for a step; None where another process has it.

    The lock ends with the last process that has the file open, so that a training which outlives
    this process keeps it. Where there are no locks, everyone gets it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a') as file:
        taken = True
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            taken = False
        except OSError as error:
            print(
                f'warning: {path.parent}: its disk has no locks ({error.strerror}): run one '
                'process alone, or give each other --rows',
                file=sys.stderr,
            )
        yield file.fileno() if taken else None


def _succeeds(step: Step, claim: int) -> bool:
    """Run a command to its end, and see that it leaves its product.

    What it prints goes to a file beside that; progress and errors stay on the screen.
    """
    shown = shlex.join(step.words)
    shown = shown if len(shown) < 160 else f'{shown[:160]}...'
    print(f'{time.strftime("%H:%M:%S")} {shown}', file=sys.stderr, flush=True)
    step.product.parent.mkdir(parents=True, exist_ok=True)
    with open(step.product.parent / 'output.log', 'ab') as log:
        code = call(step.words, log, claim)
    if step.done:
        return True
    what = f'failed with exit code {code}, see above' if code else f'left no right {step.product}'
    print(f'error: {step.name}: {shown} {what}', file=sys.stderr)
    return False


def call(words: Sequence[str], output: IO | None = None, *kept: int) -> int:
    """Run a command with this interpreter, and a free port for torchrun; returns its exit code.

    ``output`` takes what it prints, or the screen; it inherits the open files ``kept``.
    """
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = str(probe.getsockname()[1])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get('PATH', '')])
    linux = sys.platform == 'linux'
    code = subprocess.run(
        [sys.executable, *words[1:]] if words[0] == 'python' else words,
        stdout=output,
        env={'PORT': port, **os.environ, 'PATH': path},
        pass_fds=kept if fcntl is not None else (),
        preexec_fn=_end_with_parent if linux else None,
    ).returncode
    if code == 130:
        raise KeyboardInterrupt
    return code


def _end_with_parent() -> None:
    """Make a child end where its parent is killed, so that no training goes on unseen."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
