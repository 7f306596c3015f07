"""The runner: does one job and reports it line by line, as JSON, on the standard output.

It stops when its standard input ends: then the machine that started it is gone, or wants no more.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import cores, counts, gate, loop, state
from .runtimes import Loaded, Problem, load, one_line, profile

# How long a run inside a runtime may go on after the other side is gone, and how long that side may
# take to answer, in seconds.
PATIENCE = 30
STOP = 'stop'


def make_report() -> Callable:
    """Make what writes events to what was the standard output.

    Runtimes print to it too, from C: the file descriptor is moved out of their reach and theirs
    leads to the standard error.
    """
    file = os.fdopen(os.dup(1), 'w', encoding='utf-8')
    os.dup2(2, 1)
    return lambda event, **content: print(
        json.dumps(dict(event=event, **content)), file=file, flush=True
    )


class Lifeline:
    """Ends this process when the standard input ends.

    Without the word ``stop`` nobody is left to remove the ``folder`` of the measurement, so that is
    done here; None to keep it.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.lost = False  # whether the other side is gone
        _handle_signals(_interrupt)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        self.lost = sys.stdin.readline().strip() != STOP
        timer = threading.Timer(PATIENCE, self._give_up)
        timer.daemon = True
        timer.start()
        os.kill(os.getpid(), signal.SIGINT)

    def _give_up(self) -> None:
        self.clean()
        os._exit(1)

    def clean(self) -> None:
        """Remove the folder if the other side is gone."""
        if self.lost and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _handle_signals(handler: Any) -> None:
    # SIGINT too: a shell that starts this in the background has it ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def _interrupt(number: int, frame: Any) -> None:
    """Raise KeyboardInterrupt, once: a second signal must not cut the cleaning short."""
    _handle_signals(signal.SIG_IGN)
    raise KeyboardInterrupt


def prepare(job: dict[str, Any], folder: Path, report: Callable) -> Iterator[tuple[int, Loaded]]:
    """Load the networks and check their outputs; yields those that pass, with their ids."""
    for run in job['runs']:
        try:
            loaded = load(run, folder)
            outputs = loaded.outputs()
        except Problem as problem:
            report('failed', run=run['id'], failure=dict(stage='load', message=str(problem)))
            continue
        expected = [gate.read_floats(folder / name) for name in run['expected']]
        found = gate.compare(outputs, expected, run['tolerance'])
        report('gate', run=run['id'], version=loaded.version, options=loaded.options, gate=found)
        if found['passed']:
            yield run['id'], loaded
        else:
            report('failed', run=run['id'], failure=dict(stage='gate', message=found['reason']))


def work(job: dict[str, Any], folder: Path, report: Callable) -> None:
    """Do a job, see :func:`mmshuffle.latency.request.make_job`, whose files are in ``folder``.

    ``report`` gets the events ``device``, ``pinned``, ``gate``, ``failed``, ``state``, ``times``,
    ``profile`` and ``count``, see :func:`mmshuffle.latency.measure.take`.

    Raises:
        Problem: No network can be measured.
    """
    report('device', device=state.read_device())
    if job['cores'] is not None:
        chosen = cores.choose(job['cores'])
        cores.pin(chosen)
        report('pinned', pinned=chosen)
        few = [run for run in job['runs'] if run['threads'] > len(chosen)]
        if few:
            raise Problem(
                f'--threads {few[0]["threads"]}: more than the {len(chosen)} cores of --cores'
            )
    loaded = list(prepare(job, folder, report))
    if job['what'] == 'gate' or not loaded:
        return
    if job['what'] == 'count':
        for number, network in loaded:
            report('count', run=number, counts=counts.count(network, folder))
        return
    with cores.governor(job['governor'], PATIENCE + 2):
        if job['what'] == 'profile':
            for number, network in loaded:
                report('profile', run=number, layers=profile(network))
            return
        report('state', when='before', state=state.read_state())
        loop.measure(
            [network.call for _, network in loaded],
            job['protocol'],
            lambda n, times, cpu, done: report(
                'times', run=loaded[n][0], ms=[round(t, 6) for t in times], cpu=[cpu], done=done
            ),
        )
        report('state', when='after', state=state.read_state())


def report_end(job: dict[str, Any], folder: Path, report: Callable) -> None:
    """Do a job, and say at its end what it came to."""
    try:
        work(job, folder, report)
        report('end')
    except BrokenPipeError:
        raise
    except Exception as error:  # whatever it is, it has to reach the other side as one line
        kind = '' if isinstance(error, Problem) else f'{type(error).__name__}: '
        report('problem', message=kind + one_line(error))


def main() -> None:
    """Do the job whose file is named on the command line."""
    folder = Path(sys.argv[0]).resolve().parent
    sys.path.insert(0, str(folder / 'site'))  # from wheels that were carried over
    report = make_report()
    job = json.loads((folder / sys.argv[1]).read_text(encoding='utf-8'))
    lifeline = Lifeline(None if job['keep'] else folder)
    try:
        report_end(job, folder, report)
        # The other side answers, which interrupts this, or the network has silently lost it.
        time.sleep(PATIENCE)
        lifeline.lost = True
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            report('interrupted')
    except BrokenPipeError:
        lifeline.lost = True
    finally:
        lifeline.clean()
        sys.stdout = open(os.devnull, 'w')  # noqa: SIM115  (a broken pipe must not raise at exit)
    os._exit(0)  # the thread that reads the standard input would keep the process
