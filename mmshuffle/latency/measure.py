"""Measures the cases of a plan on a target, session by session."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmshuffle.errors import UserError

from .plan import Case, Plan
from .request import Request
from .targets import DeviceError, Event, Target
from .wheels import Wheel, choose_wheels

# Gets the share of the whole work that is done.
Progress = Callable[[float], None]
INTERRUPTED = 'interrupted by Ctrl-C'


@dataclass
class Measured:
    """What came back of a case.

    Attributes:
        case: The case.
        version: Version of the runtime there.
        options: Its settings.
        gate: Outcome of the correctness gate, of the last session.
        sessions: Milliseconds of the runs, session by session.
        cpu: Processor's time as a share of the length, block by block.
        layers: Layers with their times, of a profile.
        failure: Stage and message, where it cannot be measured.
    """

    case: Case
    version: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] | None = None
    sessions: list[list[float]] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    layers: list[dict[str, Any]] | None = None
    failure: dict[str, str] | None = None


@dataclass
class Recording:
    """What came back of a measurement.

    Attributes:
        cases: By case.
        device: See :func:`mmshuffle.latency.device.state.read_device`.
        states: State before and after each group of each session.
        pinned: Cores that it ran on; None for the system's choice.
        problem: Why it is not complete; None where it is.
    """

    cases: list[Measured]
    device: dict[str, Any] | None = None
    states: list[dict[str, Any]] = field(default_factory=list)
    pinned: list[int] | None = None
    problem: str | None = None


def groups(cases: Sequence[Case]) -> list[list[Case]]:
    """Cases that are measured in turn: those of one size and setting, in their order."""
    found: dict[Any, list[Case]] = {}
    for case in cases:
        found.setdefault(case.group, []).append(case)
    return list(found.values())


def measure(
    plan: Plan,
    target: Target,
    request: Request,
    progress: Progress = lambda done: None,
    sleep: Callable[[float], None] = time.sleep,
    wheels: Sequence[Wheel] = (),
) -> Recording:
    """Run every case of a plan.

    Whatever fails, what was measured until then is returned, with :attr:`Recording.problem`; the
    device is left without the files in any case.

    Args:
        plan: The cases.
        target: The device; not entered yet.
        request: What is to be done.
        progress: Is told how far it is.
        sleep: Waits between sessions.
        wheels: Packages that the device does not have.
    """
    recording = Recording([Measured(case) for case in plan.cases])
    try:
        with target:
            chosen = choose_wheels(wheels, target.place) if wheels else []
            target.send({**plan.files, **{path.name: path for path in chosen}})
            for session in range(request.protocol.sessions if request.what == 'measure' else 1):
                if session > 0:
                    sleep(request.protocol.cooldown)
                _run_session(session, plan, target, request, recording, progress)
    except KeyboardInterrupt:
        recording.problem = INTERRUPTED
    except UserError as error:
        recording.problem = str(error)
    return recording


def _run_session(
    session: int,
    plan: Plan,
    target: Target,
    request: Request,
    recording: Recording,
    progress: Progress,
) -> None:
    total = len(plan.cases) * (request.protocol.sessions if request.what == 'measure' else 1)
    before = session * len(plan.cases)
    for cases in groups(plan.cases):
        left = [case for case in cases if recording.cases[case.number].failure is None]
        shares: dict[int, float] = dict.fromkeys((case.number for case in cases), 0.0)
        for case in left:
            recording.cases[case.number].sessions.append([])
        where = dict(session=session, **describe(cases[0]))
        if left:
            # Closed at once on Ctrl-C: the runner has to end before its folder is removed.
            with contextlib.closing(target.run(request.job(left))) as events:
                for event in events:
                    take(recording, event, where)
                    if event['event'] in ('times', request.what):
                        shares[event['run']] = event.get('done', 1.0)
                        progress((before + sum(shares.values())) / total)
        before += len(cases)
        progress(before / total)


def describe(case: Case) -> dict[str, Any]:
    """Size and setting of a case, for files."""
    return dict(shape=list(case.shape[2:]), **vars(case.setting))


def take(recording: Recording, event: Event, where: dict[str, Any]) -> None:
    """Add an event of the runner to a recording.

    Args:
        recording: Is changed.
        event: See :func:`mmshuffle.latency.device.main.work`.
        where: Session, size and setting.

    Raises:
        DeviceError: The runner was interrupted there.
    """
    kind = event['event']
    measured = recording.cases[event['run']] if 'run' in event else None
    if kind == 'device':
        recording.device = event['device']
    elif kind == 'pinned':
        recording.pinned = event['cores']
    elif kind == 'loaded':
        measured.version, measured.options = event['version'], event['options']
    elif kind == 'gate':
        measured.version, measured.options = event['version'], event['options']
        measured.gate = event['result']
    elif kind == 'failed':
        measured.failure = dict(stage=event['stage'], message=event['message'])
        measured.sessions.pop()
        if event['stage'] == 'gate':
            measured.sessions.clear()  # wrong once, it may have been wrong before
    elif kind == 'times':
        measured.sessions[-1] += event['ms']
        if event['cpu'] is not None:
            measured.cpu.append(event['cpu'])
    elif kind == 'profile':
        measured.layers = event['layers']
    elif kind == 'state':
        recording.states.append(dict(where, when=event['when'], **event['state']))
    elif kind == 'interrupted':
        raise DeviceError('the runner on the device was interrupted')
