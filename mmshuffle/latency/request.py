"""What a command line asks for: plain data, kept in the file of the measurement, to repeat it."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmshuffle.analysis.tables import Row, load_table, load_tables
from mmshuffle.engine import files, shipped
from mmshuffle.engine.config import require_file
from mmshuffle.errors import UserError

from .guidelines import SIDE, all_networks
from .plan import Case, Network, Setting, from_config, setting

CORES = re.compile(r'\d+(-\d+)?(,\d+(-\d+)?)*')
# Of the command line, by group: `default` (None where not given), `flag`, `dest` (theirs where not
# the name's), `only` (the targets that use it), `unused` (other targets, tasks and what else passes
# it over), `least` (the least value), and what argparse shows.
OPTIONS = files.read_json(Path(__file__).with_name('options.json'))
PROTOCOL = {name: option['default'] for name, option in OPTIONS['protocol'].items()}
FLAT = {name: option for group in OPTIONS.values() for name, option in group.items()}
TARGET_OPTIONS = [name for name, option in FLAT.items() if 'only' in option]  # see `make_target`
# Tasks instead of `measure`: flag and help.
TASKS = {
    'profile': ('--profile', 'time by type of layer instead'),
    'count': ('--count', 'instructions and memory accesses instead, with --target emulated'),
    'gate': ('--gate-only', 'compare outputs, time nothing'),
}
DEFAULTS = {name: FLAT[name].get('default') for name in FLAT if name not in PROTOCOL}
DEFAULTS |= dict(models=[], what='measure', protocol=PROTOCOL)
Request = dict[str, Any]
Work = list[tuple[Network, Sequence[tuple[int, int]]]]
GUIDELINES = 'guidelines'
TFLITE = '.tflite'
PAPER_SHAPES = ((224, 224), (480, 640), (720, 1280))  # ShuffleNet V1, Table 8


def make_request(options: Mapping[str, Any]) -> Request:
    """Fill :data:`DEFAULTS`, and those of :data:`PROTOCOL`, with options that are not None.

    Raises:
        UserError: It has no meaning, or no use there; the message names the option.
    """
    given = {key: value for key, value in options.items() if value is not None}
    request = {**DEFAULTS, **{key: given[key] for key in DEFAULTS if key in given}}
    for key, who in _unused(request).items():
        if given.get(key, DEFAULTS.get(key)) != DEFAULTS.get(key):
            raise UserError(f'{flag(key)}: {who} does not use it; leave it out')
    request['shapes'] = [tuple(shape) for shape in request['shapes']]
    timing = {key: given[key] for key in PROTOCOL if key in given}
    request['protocol'] = protocol = {**PROTOCOL, **request['protocol'], **timing}
    if request['mlperf']:
        protocol['loops'] = max(protocol['loops'], 1024)
        protocol['seconds'] = max(protocol['seconds'], 60.0)
    _check(request)
    return request


def flag(name: str) -> str:
    """How an option is called on the command line."""
    return FLAT[name].get('flag', f'--{name.replace("_", "-")}')


def _unused(request: Request) -> dict[str, str]:
    """Options that nothing would be done with, and what it is that has no use for them."""
    kind, what = request['target'].partition(':')[0], request['what']
    found = {kind: f'the target {kind}', what: TASKS.get(what, [''])[0]}
    if request['suite'] is not None:
        found['suite'] = '--suite'
    if kind == 'adb' and 'ncnn' in request['runtimes']:
        found['benchncnn'] = 'benchncnn, which fills networks with zeros,'
    if kind == 'emulated' and what == 'measure':
        found['emulation'] = 'a table of emulated times'
    unused = {}
    for name, option in FLAT.items():
        users = [found[user] for user in option.get('unused', ()) if user in found]
        if kind not in option.get('only', [kind]):
            users = [found[kind]]
        if users:
            unused[name] = users[0]
    return unused


def _check(request: Request) -> None:
    models, target, runtimes = (request[key] for key in ('models', 'target', 'runtimes'))
    if bool(models) == (request['suite'] is not None):
        raise UserError('name networks, such as shufflenetv1-x1.0-g3, or give --suite')
    for name in (name for name, option in FLAT.items() if 'choices' in option):
        for value in [request[name]] if isinstance(request[name], str) else request[name]:
            if value not in FLAT[name]['choices']:
                raise UserError(f'{flag(name)} {value}: give {", ".join(FLAT[name]["choices"])}')
    if min(request['threads']) < 1:
        raise UserError('--threads: give numbers of at least 1')
    for name, value in request['protocol'].items():
        least = FLAT[name].get('least', 0)
        if not least <= value < math.inf:
            raise UserError(f'{flag(name)} {value:g}: give a finite number, at least {least}')
    cores = request['cores']
    if cores and cores not in ('big', 'little') and not CORES.fullmatch(cores):
        raise UserError(f'--cores {cores}: give big, little or a list such as 0,2-3')
    on_android = target.partition(':')[0] == 'adb'
    lite = {name.endswith(TFLITE) for name in models}
    if True in lite and not (runtimes == ['litert'] and lite == {True} and on_android):
        raise UserError(
            'a .tflite file is measured alone, with --runtime litert --target adb: elsewhere its '
            'outputs could not be checked; give the config instead'
        )
    if True in lite and len(request['shapes']) != 1:
        raise UserError('--shape: give the one size that the .tflite files take')
    if request['what'] == 'profile' and runtimes != ['onnxruntime']:
        raise UserError('--profile: only --runtime onnxruntime tells the time of each layer')
    if request['what'] == 'count' and (target != 'emulated' or request['threads'] != [1]):
        raise UserError('--count: counts one thread on --target emulated, and nothing else')
    if request['what'] == 'profile' and target == 'emulated':
        raise UserError('--profile: the times of emulation say nothing about a device')


def find_work(request: Request) -> Work:
    """The networks and their sizes: Table 8's, where none are given.

    Raises:
        UserError: A config, part or suite does not exist, a checkpoint is for none of the networks,
            or two files have one name.
    """
    if request['suite'] is not None:
        return suite(request['suite'], request['shapes'])
    models, checkpoints = request['models'], request['checkpoints']
    unknown = set(checkpoints) - set(models)
    if unknown:
        raise UserError(f'--checkpoint {unknown.pop()}=...: it is not among the networks')
    found: dict[str, Network] = {}
    for name in dict.fromkeys(models):
        if name.endswith(TFLITE):
            require_file(name, 'network')
            network = Network(Path(name).stem, None, weights=name, file=Path(name))
        else:
            network = from_config(name, checkpoints.get(name), request['part'])
        if network.name in found:
            raise UserError(f'{name}: another network is called {network.name} too: rename a file')
        found[network.name] = network
    return [(network, request['shapes'] or PAPER_SHAPES) for network in found.values()]


def names() -> list[str]:
    """Suites: the guidelines, and every table with latencies of networks that are built here."""
    return [GUIDELINES, *(t.name for t in load_tables().values() if any(map(_is_timed, t.rows)))]


def _is_timed(row: Row) -> bool:
    return bool(row.config and row.latency_ms)


def suite(name: str, shapes: Sequence[tuple[int, int]] = ()) -> Work:
    """The networks of a suite, one of :func:`names`, and their sizes, or those of ``shapes``.

    Raises:
        UserError: There is no such suite, or it has nothing at these sizes.
    """
    if name == GUIDELINES:
        if shapes and tuple(shapes) != ((SIDE, SIDE),):
            raise UserError(f'--shape: the networks of the guidelines take {SIDE}x{SIDE}')
        return [(network, [(SIDE, SIDE)]) for network in all_networks()]
    if name not in names():
        raise UserError(f'--suite {name}: give one of {", ".join(names())}')
    found: dict[str, list[tuple[int, int]]] = {}
    for row in load_table(name).rows:
        if _is_timed(row) and (not shapes or row.shape in shapes):
            sizes = found.setdefault(shipped.network(Path(row.config)), [])
            if row.shape not in sizes:
                sizes.append(row.shape)
    if not found:
        raise UserError(f'--shape: {name} has no row of this size')
    return [(from_config(config), sizes) for config, sizes in found.items()]


def find_settings(request: Request) -> list[Setting]:
    """Every combination of runtime, threads, precision and shuffle, see :func:`.plan.setting`."""
    lists = (request[key] for key in ('runtimes', 'threads', 'precisions', 'shuffles'))
    return list(itertools.starmap(setting, itertools.product(*lists)))


def make_job(request: Request, cases: Sequence[Case]) -> dict[str, Any]:
    """The job for some cases, as the device reads it; ``input`` is (N, C, H, W)."""
    asked = {key: request[key] for key in ('what', 'protocol', 'governor', 'cores')}
    runs = []
    for case in cases:
        how = dict(case.setting, input=list(case.shape), profile=asked['what'] == 'profile')
        what = {key: getattr(case, key) for key in ('files', 'expected', 'tolerance')}
        runs.append(dict(how, id=case.number, **what))
    return dict(asked, runs=runs)


def replay(content: Any, target: str | None = None, what: str | None = None) -> Request:
    """Read the request of a file, without what has no use on another target or for another task.

    Raises:
        UserError: It has another form.
    """
    try:
        surprise = content.keys() - DEFAULTS.keys() or content['protocol'].keys() - PROTOCOL.keys()
        if surprise:
            raise KeyError(*surprise)
        asked = {**DEFAULTS, **content}
        same = dict(target=target or asked['target'], what=what or asked['what'])
        if same['target'].partition(':')[0] != asked['target'].partition(':')[0]:
            asked |= dict.fromkeys(('wheels', *TARGET_OPTIONS))
        unused = {**_unused(asked), **_unused({**asked, **same})}
        return make_request({key: asked[key] for key in asked if key not in unused})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f'the file cannot be replayed: its request lacks or has {error}') from None
