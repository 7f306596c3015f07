"""Measures the cases of a plan on a target, session by session."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmshuffle.errors import UserError

from .plan import Case, Plan
from .request import Request, make_job
from .targets.base import DeviceError, Event, Target
from .wheels import Wheel, choose_wheels

# Gets the share of the whole work that is done.
Progress = Callable[[float], None]
INTERRUPTED = 'interrupted by Ctrl-C'
# What events have of attributes of a recording, or of the case that they are of.
TAKEN = {'device', 'pinned', 'version', 'options', 'gate', 'layers', 'counts', 'failure'}


@dataclass
class Recording:
    """What came back of a measurement."""

    cases: list[Case]  # with what came back of each
    device: dict[str, Any] | None = None  # see :func:`mmshuffle.latency.device.state.read_device`
    # State before and after each group of each session.
    states: list[dict[str, Any]] = field(default_factory=list)
    pinned: list[int] | None = None  # cores that it ran on; None for the system's choice
    problem: str | None = None  # why it is not complete; None where it is


def groups(cases: Sequence[Case]) -> list[list[Case]]:
    """Cases that are measured in turn, in their order; see :attr:`.plan.Case.group`."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(str(case.group), []).append(case)
    return list(found.values())


def measure(
    plan: Plan,
    target: Target,
    request: Request,
    progress: Progress = lambda done: None,
    sleep: Callable[[float], None] = time.sleep,
    wheels: Sequence[Wheel] = (),
) -> Recording:
    """Run every case of a plan on a device, with the packages that it does not have.

    Whatever fails, what was measured until then is returned, with :attr:`Recording.problem`; the
    device, which is not entered yet, is left without the files in any case.
    """
    recording = Recording(plan.cases)
    parts = groups(plan.cases)
    sessions = request['protocol']['sessions'] if request['what'] == 'measure' else 1
    done, total = 0.0, len(plan.cases) * sessions
    try:
        with target:
            chosen = choose_wheels(wheels, target.place) if wheels else []
            target.send({**plan.files, **{path.name: path for path in chosen}})
            for number, cases in enumerate(parts * sessions):
                session, part = divmod(number, len(parts))
                if session > 0 and part == 0:
                    sleep(request['protocol']['cooldown'])
                left = [case for case in cases if case.failure is None]
                # Closed at once on Ctrl-C: the runner has to end before its folder is removed.
                with contextlib.closing(_run(left, target, request, recording, session)) as shares:
                    for share in shares:
                        progress((done + share) / total)
                done += len(cases)
                progress(done / total)
    except KeyboardInterrupt:
        recording.problem = INTERRUPTED
    except UserError as error:
        recording.problem = str(error)
    return recording


def _run(
    cases: Sequence[Case], target: Target, request: Request, recording: Recording, session: int
) -> Iterator[float]:
    """Run cases of one group; yields how many of them are done."""
    if not cases:
        return
    for case in cases:
        case.sessions.append([])
    where = dict(session=session, **cases[0].group)
    shares: dict[int, float] = {}
    with contextlib.closing(target.run(make_job(request, cases))) as events:
        for event in events:
            take(recording, event, where)
            if event['event'] in ('times', request['what']):
                shares[event['run']] = event.get('done', 1.0)
                yield sum(shares.values())


def take(recording: Recording, event: Event, where: dict[str, Any]) -> None:
    """Add an event of :func:`.device.main.work` to a recording; ``where`` is session and group.

    Raises:
        DeviceError: The runner was interrupted there.
    """
    kind = event['event']
    place = recording.cases[event['run']] if 'run' in event else recording
    for name in TAKEN.intersection(event):
        setattr(place, name, event[name])
    if kind == 'failed':
        place.sessions.pop()
        if place.failure['stage'] == 'gate':
            place.sessions.clear()  # wrong once, it may have been wrong before
    elif kind == 'times':
        place.sessions[-1].append(event['ms'])
        place.cpu += event['cpu']
    elif kind == 'state':
        recording.states.append(dict(where, when=event['when'], **event['state']))
    elif kind == 'interrupted':
        raise DeviceError('the runner on the device was interrupted')
