#!/usr/bin/env python3
"""Measure the latency of networks on the device that will run them.

Outputs are first compared with PyTorch's; without that there is no figure. Results go to a JSON
file, a Markdown table and a plot. "diff A.json B.json ..." compares files, "show A.json" prints the
table of one again.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

import mmshuffle  # noqa: F401  (registers everything)
from mmshuffle.deploy.formats import Unsupported
from mmshuffle.engine import cli
from mmshuffle.errors import UserError
from mmshuffle.latency import report
from mmshuffle.latency.difference import difference_table
from mmshuffle.latency.measure import INTERRUPTED, Progress, measure
from mmshuffle.latency.plan import Plan, read_accuracies
from mmshuffle.latency.record import check_path, make_record, read_record, write_results
from mmshuffle.latency.request import (
    FLAT,
    OPTIONS,
    PROTOCOL,
    TARGET_OPTIONS,
    TASKS,
    Request,
    find_settings,
    find_work,
    flag,
    make_request,
    names,
    replay,
)
from mmshuffle.latency.targets import make_target, prepare
from mmshuffle.latency.wheels import choose_wheels, read_wheels

EXAMPLE = """examples:
  python tools/latency.py shufflenetv1-x1.0-g3 mobilenetv1-x1.0 --shape 224x224
  python tools/latency.py --suite shufflenet_v1/table8 --target ssh:pi@raspberrypi.local \\
      --runtime onnxruntime ncnn --cores big --out pi.json
  python tools/latency.py --replay pi.json --out pi-again.json
  python tools/latency.py diff pi.json pi-again.json
"""
BAR = '{desc}: {percentage:3.0f}% |{bar}| {elapsed}<{remaining}'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line of a measurement; with ``--replay``, the file has the defaults."""
    parser = cli.make_parser(__doc__, EXAMPLE)
    parser.add_argument('models', nargs='*', metavar='CONFIG|NAME', help='networks')
    for title, options in OPTIONS.items():
        add_options(parser.add_argument_group(title), options)
    tasks = parser.add_mutually_exclusive_group()
    for what, (option, text) in TASKS.items():
        tasks.add_argument(option, dest='what', action='store_const', const=what, help=text)
    parser.add_argument('--keep', action='store_true', help='leave the files on the device')
    text = 'fill a folder for --root with Debian packages and wheels (300 MB), and end'
    parser.add_argument('--prepare', type=Path, metavar='DIR', help=text)
    parser.add_argument('--replay', metavar='FILE', help='repeat the measurement of a file')
    text, out = 'file to write (default %(default)s), with .md and .png beside it', 'latency.json'
    parser.add_argument('--out', type=Path, default=Path(out), metavar='FILE', help=text)
    args = parser.parse_args(argv)
    if args.replay:
        before = read_record(Path(args.replay))['request']
        parser.set_defaults(**replay(before, args.target, args.what))
        args = parser.parse_args(argv)
    if args.checkpoint:
        args.checkpoints = read_checkpoints(args.checkpoint, args.models)
    return args


def add_options(group: argparse._ArgumentGroup, options: Mapping[str, Any]) -> None:
    """Add a group of ``options.json``; what is not given is None."""
    for name, option in options.items():
        words = {
            key: option[key] for key in ('nargs', 'metavar', 'action', 'choices') if key in option
        }
        if name in TYPES:
            words['type'] = TYPES[name]
        text = option['help'].format(suites=', '.join(names()))
        if name in PROTOCOL:
            words.update(type=type(option['default']), metavar='N')
            text += f' (default {option["default"]})'
        dest = option.get('dest', name)
        group.add_argument(flag(name), dest=dest, default=None, help=text, **words)


def read_shape(text: str) -> tuple[int, int]:
    """Read ``HxW``."""
    try:
        height, width = map(int, text.split('x'))
    except ValueError:
        height = width = 0
    if min(height, width) < 1:
        raise argparse.ArgumentTypeError(f'{text}: write height x width, such as 480x640')
    return height, width


def read_checkpoints(options: list[str], models: list[str]) -> dict[str, str]:
    """Read ``--checkpoint``, whose name may be left out where there is one network."""
    if len(options) == 1 and len(models) == 1 and not options[0].startswith(f'{models[0]}='):
        return {models[0]: options[0]}
    for option in options:
        if '=' not in option:
            raise UserError(f'--checkpoint {option}: write NAME=FILE, with one of the networks')
    return dict(option.split('=', 1) for option in options)


TYPES = dict(shapes=read_shape, threads=int)


@contextmanager
def bar(title: str) -> Iterator[Progress]:
    """A progress bar from 0 to 1, with the time that is left."""
    # Into a file, a line now and then.
    pause = 0.5 if sys.stderr.isatty() else 30
    options = dict(total=1, bar_format=BAR, file=sys.stderr, leave=False, mininterval=pause)
    with tqdm(desc=title, **options) as shown:
        yield lambda done: shown.update(done - shown.n)


def make_plan(request: Request, folder: Path) -> Plan:
    """Build and export the networks."""
    plan = Plan(folder, read_accuracies(request['accuracies']))
    work, settings = find_work(request), find_settings(request)
    report.check_reference({network.name for network, _ in work}, request['reference'])
    total = sum(len(shapes) for _, shapes in work) * len(settings)
    with bar('exporting') as update:
        for network, shapes in work:
            try:
                for _ in plan.add(network, shapes, settings):
                    update(len(plan.cases) / total)
            except OSError as error:
                raise UserError(f'{folder}: {error.strerror or error}; set TMPDIR') from None
            except Unsupported as error:
                raise UserError(f'{network.name}: {error}') from error
    for path in set(request['accuracies']) - {c.accuracy['file'] for c in plan.cases if c.accuracy}:
        raise UserError(
            f'--accuracy {path}: of another network, part, runtime, shape, --shuffle or --precision'
        )
    return plan


def run(args: argparse.Namespace) -> None:
    """Measure, write, print; what was measured before an error or Ctrl-C is written, too."""
    request = make_request(vars(args))
    folder = request['wheels']
    if request['root'] and not folder and Path(request['root'], 'wheels').is_dir():
        folder = f'{request["root"]}/wheels'  # of `prepare`
    wheels = read_wheels(folder, request['runtimes']) if folder else []
    options = {name: request[name] for name in TARGET_OPTIONS}
    target = make_target(request['target'], args.keep, **options)
    check_path(args.out)
    place = target.probe(request)  # before the networks are exported
    if wheels:
        choose_wheels(wheels, place)
    with tempfile.TemporaryDirectory(prefix='mmshuffle-export-') as folder:
        plan = make_plan(request, Path(folder))
        with bar(f'measuring on {target.name}') as update:
            recording = measure(plan, target, request, update, wheels=wheels)
        record = make_record(recording, target, request)
    problem, failures, kept = record['problem'], record['failures'], ''
    if record['results'] or record['gates'] or failures or not problem:
        write_results(record, args.out, request['reference'])
        kept = f'; what was measured is in {args.out}, marked incomplete'
    if problem == INTERRUPTED:
        if kept:
            print(kept[2:], file=sys.stderr)
        raise KeyboardInterrupt
    if problem:
        raise UserError(problem + kept)
    if failures:
        first, more = failures[0], len(failures) - 1
        others = f' (and {more} more, see {args.out})' if more else ''
        raise UserError(f'{report.label(first)}, {first["runtime"]}: {first["message"]}{others}')


READERS = {
    'diff': 'Compare files of measurements; of more than two, show how far they differ.',
    'show': 'Print the table of a file again.',
}


def read(command: str, argv: list[str]) -> None:
    """``diff A.json B.json ...`` and ``show A.json``."""
    parser = cli.make_parser(READERS[command], '')
    parser.prog += f' {command}'
    parser.add_argument('files', nargs='+' if command == 'diff' else 1, type=Path, metavar='FILE')
    parser.add_argument('--reference', metavar='NAME', help=FLAT['reference']['help'])
    args = parser.parse_args(argv)
    paths = list(dict.fromkeys(args.files))
    if command == 'diff' and len(paths) < 2:
        raise UserError('diff: name two files or more')
    stems = {path.stem for path in paths}
    records = {p.stem if len(stems) == len(paths) else str(p): read_record(p) for p in paths}
    names = [{result['config'] for result in record['results']} for record in records.values()]
    report.check_reference(set.intersection(*names), args.reference)
    first = next(iter(records.values()))
    reference = args.reference or first['request'].get('reference')
    if command == 'show':
        print(report.to_markdown(first, reference))
    else:
        print(difference_table(records, reference))


def main(argv: list[str] | None = None) -> None:
    """Measure, or compare or show files."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in READERS:
        read(words[0], words[1:])
        return
    args = parse_args(words)
    if args.prepare is None:
        run(args)
        return
    if args != parse_args(['--prepare', str(args.prepare)]):
        raise UserError('--prepare: fills the folder and ends: leave all other arguments out')
    with bar(f'filling {args.prepare}') as update:
        prepare(args.prepare, update)
    print(f'ready: --target emulated --root {args.prepare}')


if __name__ == '__main__':
    cli.run(main)
