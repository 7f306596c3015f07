"""The file of a measurement: written, read, and its form."""

import datetime
from pathlib import Path
from typing import Any

import mmshuffle
from mmshuffle.engine.files import read_json, write_json
from mmshuffle.errors import UserError

from . import layers
from .measure import Measured, Recording, describe
from .notes import notes_on
from .statistics import Summary, summarise
from .targets import Target

SCHEMA = Path(__file__).with_name('schema.json')
VERSION = 'mmshuffle-latency/1'

Record = dict[str, Any]


def make_record(recording: Recording, target: Target, request: dict[str, Any]) -> Record:
    """Put a measurement into the form of ``schema.json``.

    Args:
        recording: The measurement.
        target: Where it was made.
        request: Options of the command line, for a replay.
    """
    failures = [
        dict(describe_case(m), **m.failure) for m in recording.cases if m.failure is not None
    ]
    return dict(
        schema=VERSION,
        mmshuffle=mmshuffle.__version__,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        complete=recording.problem is None and not failures,
        problem=recording.problem,
        request=request,
        target=dict(name=target.name, kind=target.kind, emulated=target.emulated),
        device=recording.device,
        cores=recording.pinned,
        states=recording.states,
        gates=[
            dict(describe_case(m), version=m.version, **m.gate)
            for m in recording.cases
            if m.gate is not None
        ],
        results=[
            _result(m, recording, target.emulated) for m in recording.cases if any(m.sessions)
        ],
        profiles=[_profile(m) for m in recording.cases if m.layers is not None],
        failures=failures,
    )


def describe_case(measured: Measured) -> dict[str, Any]:
    """What a case is, for the file."""
    network = measured.case.network
    return dict(
        config=network.name,
        part=network.part,
        weights=network.weights,
        **describe(measured.case),
    )


def _result(measured: Measured, recording: Recording, emulated: bool) -> dict[str, Any]:
    notes = notes_on(measured, recording.states, recording.pinned)
    samples = [list(times) for times in measured.sessions if times]
    return dict(
        describe_case(measured),
        version=measured.version,
        options=measured.options,
        gate_error=None if measured.gate is None else measured.gate['error'],
        **summarise(samples, notes).as_dict(emulated),
        **{'emulated_samples_ms' if emulated else 'samples_ms': samples},
    )


def _profile(measured: Measured) -> dict[str, Any]:
    return dict(
        describe_case(measured),
        version=measured.version,
        by_type=layers.sum_up(measured.layers),
        layers=[dict(layer, kind=layers.layer_type(layer)) for layer in measured.layers],
    )


def summary_of(result: dict[str, Any]) -> Summary:
    """The figures of an entry of ``results``, emulated or not."""
    prefix = 'emulated_' if 'emulated_median_ms' in result else ''
    names = ('min', 'p10', 'median', 'p90', 'p99', 'mean', 'std')
    return Summary(
        count=result['count'],
        sessions=result['sessions'],
        interval=tuple(result[f'{prefix}interval_ms']),
        drift=result['drift'],
        spread=result['spread'],
        reasons=tuple(result['reasons']),
        **{name: result[f'{prefix}{name}_ms'] for name in names},
    )


def write_record(record: Record, path: Path) -> None:
    """Write the file whole, or not at all."""
    write_json(record, path)


def read_record(path: Path) -> Record:
    """Read a file of :func:`write_record`.

    Raises:
        UserError: There is no such file, or it is of another kind or version.
    """
    record = read_json(path)
    if not isinstance(record, dict) or record.get('schema') != VERSION:
        raise UserError(f'{path} is no file of tools/latency.py in the form {VERSION}')
    missing = [key for key in read_json(SCHEMA)['required'] if key not in record]
    if missing:
        raise UserError(f'{path} is damaged: it has no {", ".join(missing)}; measure again')
    return record
