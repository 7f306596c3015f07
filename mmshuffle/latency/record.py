"""What a measurement leaves: a JSON file of a fixed form, a Markdown report and a plot."""

import datetime
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

import mmshuffle
from mmshuffle.engine import files
from mmshuffle.errors import UserError

from . import layers, plot, report
from .measure import Recording
from .plan import Case
from .statistics import summarise
from .targets.base import Target

SCHEMA = Path(__file__).with_name('schema.json')
VERSION = 'mmshuffle-latency/2'
# The form before, without blocks and ratios, is read too.
VERSIONS = ('mmshuffle-latency/1', VERSION)

# Below this share of a core, one thread was kept waiting.
MIN_SHARE = 0.95
# A frequency that falls by more was taken back by the system.
MAX_SLOWDOWN = 0.05

Record = dict[str, Any]
State = Mapping[str, Any]


def make_record(recording: Recording, target: Target, request: dict[str, Any]) -> Record:
    """Put a measurement into the form of ``schema.json``, with the request for a replay."""
    cases, emulated = recording.cases, target.emulated
    failures = [dict(c.describe(), **c.failure) for c in cases if c.failure is not None]
    record = dict(
        schema=VERSION,
        mmshuffle=mmshuffle.__version__,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        complete=recording.problem is None and not failures,
        problem=recording.problem,
        request=request,
        target=dict(name=target.name, kind=target.kind, emulated=emulated),
        device=recording.device,
        cores=recording.pinned,
        states=recording.states,
        gates=[dict(c.describe(), version=c.version, **c.gate) for c in cases if c.gate],
        results=[_result(c, recording, emulated) for c in cases if any(c.sessions)],
        profiles=[
            dict(
                c.describe(),
                version=c.version,
                by_type=layers.sum_up(c.layers),
                layers=[dict(layer, kind=layers.layer_type(layer)) for layer in c.layers],
            )
            for c in cases
            if c.layers is not None
        ],
        counts=[dict(c.describe(), version=c.version, **c.counts) for c in cases if c.counts],
        failures=failures,
    )
    if not emulated:
        report.add_ratios(record['results'], request.get('reference'))
    return record


def _result(case: Case, recording: Recording, emulated: bool) -> dict[str, Any]:
    samples = [blocks for blocks in case.sessions if blocks]
    figures = summarise(samples, notes_on(case, recording.states, recording.pinned))
    figures['samples_ms'] = samples
    error = None if case.gate is None else case.gate['error']
    return dict(
        **dict(case.describe(), version=case.version, options=case.options, gate_error=error),
        # No reader can take times of emulation for those of a device.
        **{f'emulated_{k}' if emulated and k.endswith('_ms') else k: figures[k] for k in figures},
    )


def read_record(path: Path) -> Record:
    """Read a file of :func:`write_results`.

    Raises:
        UserError: There is no such file, or it is of another kind or version.
    """
    record = files.read_json(path)
    if not isinstance(record, dict) or record.get('schema') not in VERSIONS:
        raise UserError(f'{path} is no file of tools/latency.py in the form {VERSION}')
    fault = best_match(Draft202012Validator(files.read_json(SCHEMA)).iter_errors(record))
    if fault is not None:  # whose message may have the whole value in front
        where, said = fault.json_path.removeprefix('$.'), fault.message[-100:]
        raise UserError(f'{path} is damaged at {where}: {said}; measure again')
    if record['schema'] != VERSION:
        for result in record['results']:
            samples = result['samples_ms' if 'samples_ms' in result else 'emulated_samples_ms']
            samples[:] = [[times] for times in samples]
    return record


def check_path(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is measured.

    Raises:
        UserError: It is a folder, has another ending, or its folder is not there.
    """
    if path.suffix != '.json':
        raise UserError(f'--out {path}: give a file that ends in .json')
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f'--out {path}: {path.parent} is no folder, or the file is one')


def write_results(record: Record, path: Path, reference: str | None = None) -> None:
    """Write all files and print the report."""
    text = report.to_markdown(record, reference)
    print(text)  # first: a disk that is full cannot take the figures away
    files.write_json(record, path)
    files.write(f'{text}\n'.encode(), path.with_suffix('.md'))
    written = [path, path.with_suffix('.md')]
    try:
        picture = plot.draw(record)
    except UserError as error:
        print(f'warning: {error}', file=sys.stderr)
        picture = None
    if picture is not None:
        written.append(path.with_suffix('.png'))
        files.write(picture, written[-1])
    print('\nwritten: ' + ', '.join(map(str, written)))


def notes_on(case: Case, states: Sequence[State], cores: Sequence[int] | None = None) -> list[str]:
    """Reasons not to trust the figures of a case, which ran on ``cores`` if they were chosen."""
    mine = [state for state in states if case.group.items() <= state.items()]
    before, after = ([s for s in mine if s['when'] == when] for when in ('before', 'after'))
    notes = [] if case.gate is not None else ['outputs not checked: the program shows none']
    for first, last in zip(before, after):
        notes += _throttling(first, last) + _slowdown(first, last, cores)
    share = float(np.mean(case.cpu)) if case.cpu else 1.0
    if case.setting['threads'] == 1 and share < MIN_SHARE:
        notes.append(f'other programs took {1 - share:.0%} of its core')
    return list(dict.fromkeys(notes))


def _throttling(before: State, after: State) -> list[str]:
    """Signs of throttling now, or new ones since the state before."""
    found = []
    for name, value in after['throttling'].items():
        earlier = before['throttling'].get(name, 0)
        if 'flags' in name:
            # The lower bits say what is now, the upper ones what has been since the start.
            value = value & 0xF or value & ~earlier
            name += f' {value:#x}'
        elif name.endswith(' count'):
            value -= earlier  # counters count from the start
        found += [f'throttling: {name}'] if value else []
    return found


def _slowdown(before: State, after: State, cores: Sequence[int] | None) -> list[str]:
    """A fastest core that ended slower than it began; the others may have become idle."""

    def fastest(khz: Mapping[str, int]) -> int:
        return max((khz[c] for c in khz if cores is None or int(c) in cores), default=0)

    first, last = fastest(before['khz']), fastest(after['khz'])
    if last >= (1 - MAX_SLOWDOWN) * first:
        return []
    return [f'the fastest core fell from {first / 1000:.0f} to {last / 1000:.0f} MHz']
