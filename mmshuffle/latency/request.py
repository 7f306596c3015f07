"""What a command line asks for; it is kept in the file of the measurement, to repeat it."""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmshuffle.errors import UserError

from .networks import PARTS
from .plan import PRECISIONS, RUNTIMES, Case, Protocol, Setting
from .suites import TFLITE, Work, named, suite
from .targets import OPTIONS

CORES = re.compile(r'\d+(-\d+)?(,\d+(-\d+)?)*')
TARGET_OPTIONS = {option for options in OPTIONS.values() for option in options}


@dataclass(frozen=True)
class Request:
    """A measurement, as it is asked for.

    Attributes:
        models: Names or paths of configs.
        checkpoints: Weights by name.
        suite: Name of a suite, instead of models.
        part: Part of a config's model.
        shapes: Image sizes, (height, width).
        runtimes, threads, precisions, shuffles: See :class:`.plan.Setting`; every combination is
            measured.
        protocol: How networks are timed.
        target: Where.
        python, folder, ssh_config, root, cpu, binary: See :func:`.targets.make_target`.
        wheels: Folder with packages to carry over.
        cores: ``'big'``, ``'little'`` or a list such as ``0,2-3``.
        governor: Frequency governor to be set and put back.
        what: ``'measure'``, ``'gate'`` or ``'profile'``.
        mlperf: Whether the 90th percentile is the figure, as in MLPerf's single-stream scenario;
            the protocol then has at least 1024 runs and 60 s.
        reference: Network that the others are set in relation to.
    """

    models: tuple[str, ...] = ()
    checkpoints: dict[str, str] = field(default_factory=dict)
    suite: str | None = None
    part: str = 'auto'
    shapes: tuple[tuple[int, int], ...] = ()
    runtimes: tuple[str, ...] = ('onnxruntime',)
    threads: tuple[int, ...] = (1,)
    precisions: tuple[str, ...] = ('fp32',)
    shuffles: tuple[str, ...] = ('native',)
    protocol: Protocol = field(default_factory=Protocol)
    target: str = 'local'
    python: str | None = None
    folder: str | None = None
    wheels: str | None = None
    ssh_config: str | None = None
    root: str | None = None
    cpu: str | None = None
    binary: str | None = None
    cores: str | None = None
    governor: str | None = None
    what: str = 'measure'
    mlperf: bool = False
    reference: str | None = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            UserError: The message names the option.
        """
        if bool(self.models) == (self.suite is not None):
            raise UserError('name networks, such as shufflenetv1-x1.0-g3, or give --suite')
        if self.suite is not None and self.checkpoints:
            raise UserError('--checkpoint: name the networks instead of --suite')
        for option, values, allowed in (
            ('--runtime', self.runtimes, RUNTIMES),
            ('--precision', self.precisions, PRECISIONS),
            ('--part', (self.part,), PARTS),
        ):
            for value in values:
                if value not in allowed:
                    raise UserError(f'{option} {value}: give {", ".join(allowed)}')
        if min(self.threads) < 1:
            raise UserError('--threads: give numbers of at least 1')
        if self.cores and self.cores not in ('big', 'little') and not CORES.fullmatch(self.cores):
            raise UserError(f'--cores {self.cores}: give big, little or a list such as 0,2-3')
        on_android = self.target.partition(':')[0] == 'adb'
        if on_android and self.wheels:
            raise UserError('--wheels: leave it out, the target adb runs no Python')
        lite = {name.endswith(TFLITE) for name in self.models}
        possible = self.runtimes == ('tflite',) and lite == {True} and on_android
        if ('tflite' in self.runtimes or True in lite) and not possible:
            raise UserError(
                '--runtime tflite: measures .tflite files, with --target adb, and nothing else'
            )
        if self.what == 'profile' and self.runtimes != ('onnxruntime',):
            raise UserError('--profile: only --runtime onnxruntime tells the time of each layer')
        if self.what == 'profile' and self.target == 'emulated':
            raise UserError('--profile: the times of emulation say nothing about a device')

    def work(self) -> Work:
        """The networks and their sizes.

        Raises:
            UserError: They do not exist.
        """
        if self.suite is not None:
            return suite(self.suite, self.shapes)
        return named(self.models, self.checkpoints, self.part, self.shapes)

    def settings(self) -> list[Setting]:
        """Every combination of runtime, threads, precision and shuffle.

        Raises:
            UserError: A runtime does not have one of them.
        """
        return [
            Setting(*chosen)
            for chosen in itertools.product(
                self.runtimes, self.threads, self.precisions, self.shuffles
            )
        ]

    def job(self, cases: Sequence[Case]) -> dict[str, Any]:
        """The job for some cases, as the device reads it."""
        named = self.cores in (None, 'big', 'little')
        return dict(
            what=self.what,
            protocol=vars(self.protocol),
            cores=self.cores if named else _read_list(self.cores),
            governor=self.governor,
            runs=[
                dict(
                    **vars(case.setting),
                    id=case.number,
                    files=case.files,
                    input=list(case.shape),
                    expected=case.expected,
                    tolerance=case.tolerance,
                    profile=self.what == 'profile',
                )
                for case in cases
            ],
        )

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> 'Request':
        """Make a request of the options of a command line, where None is the default.

        Raises:
            UserError: The message names the option.
        """
        given = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in options.items()
            if value is not None
        }
        protocol, request = (
            {f.name: given[f.name] for f in dataclasses.fields(kind) if f.name in given}
            for kind in (Protocol, cls)
        )
        protocol = Protocol(**protocol)
        if given.get('mlperf'):
            loops, seconds = max(protocol.loops, 1024), max(protocol.seconds, 60.0)
            protocol = dataclasses.replace(protocol, loops=loops, seconds=seconds)
        return cls(**{**request, 'protocol': protocol})

    def options(self, target: str | None) -> dict[str, Any]:
        """The options for :meth:`of`, on a target: None is the same, another kind has its own."""
        found = {**vars(self), **vars(self.protocol)}
        if target and target.partition(':')[0] != self.target.partition(':')[0]:
            found |= dict.fromkeys(('wheels', *TARGET_OPTIONS))
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return dataclasses.asdict(self)


def _read_list(text: str) -> list[int]:
    """Numbers of a list such as ``0,2-3``."""
    found = []
    for part in text.split(','):
        first, _, last = part.partition('-')
        found += range(int(first), int(last or first) + 1)
    return found


def read_request(content: dict[str, Any]) -> Request:
    """Read what :meth:`Request.as_dict` gave.

    Raises:
        UserError: It has another form.
    """
    try:
        if content.get('cpu') == 'max':
            content = dict(content, cpu=None)  # files had it with every target
        shapes = tuple(map(tuple, content['shapes']))
        surprise = content.keys() - {field.name for field in dataclasses.fields(Request)}
        if surprise:
            raise KeyError(*surprise)
        return Request.of({**content, **content['protocol'], 'shapes': shapes})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f'the file cannot be replayed: its request lacks or has {error}') from None
