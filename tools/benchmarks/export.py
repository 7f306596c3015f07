#!/usr/bin/env python3
"""Time the forms of an exported ShuffleNet V2 against each other.

Each form is exported, checked against PyTorch, and timed; the forms take turns, so that whatever
else the machine does hits all of them. Needs an idle machine all the same.
"""

import argparse
import functools
import itertools
import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from textbook import TextbookShuffleNetV2
from torch import Tensor, nn
from tqdm import tqdm

import mmshuffle  # noqa: F401  (registers everything)
from mmshuffle.deploy import FORMATS, export, shuffle_free
from mmshuffle.deploy.timing import Run, fastest, ratio, time_in_turns
from mmshuffle.engine import cli
from mmshuffle.engine.files import write_json
from mmshuffle.engine.norm_statistics import estimate_statistics
from mmshuffle.errors import UserError
from mmshuffle.latency.device.state import read_soc
from mmshuffle.reporting import markdown_table
from mmshuffle.weights.families import recognise

EXAMPLE = """example:
  python tools/benchmarks/export.py --json export.json
  python tools/benchmarks/export.py --widths 1.0 --shapes 224x224 --runtimes ncnn --seconds 5
"""
RUNTIMES = ('onnx', 'ncnn', 'pytorch')
NAMES = {'onnx': 'ONNX Runtime', 'ncnn': 'ncnn', 'pytorch': 'PyTorch eager, channels_last'}
# Forms of one function; of the shuffle-free one, several by the multiple that channels are filled
# up to. Runtimes work on blocks of so many.
PLAIN = ('textbook', 'native')
FREE = 'free'
LEGEND = """\
* textbook: concatenation, reshape, transposition, split in every unit, as networks are usually \
written (channel order of torchvision).
* native: this project's module as it stands.
* free: the shuffle-free form; of free-N, which fills channels up to a multiple of N with zeros, \
the fastest.
* Milliseconds are medians of the rounds; a ratio is the median of the ratios within a round, with \
its 95 % interval."""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.make_parser(__doc__, EXAMPLE)
    parser.add_argument('--widths', nargs='+', type=float, default=[1.0, 0.5])
    parser.add_argument('--shapes', nargs='+', default=['224x224', '480x640'], metavar='HxW')
    parser.add_argument('--runtimes', nargs='+', choices=RUNTIMES, default=list(RUNTIMES))
    parser.add_argument(
        '--layout',
        choices=('torchvision', 'megvii'),
        default='torchvision',
        help='channel order of the network (default %(default)s; megvii has no textbook form)',
    )
    parser.add_argument('--threads', type=int, default=1, help='default %(default)s')
    parser.add_argument(
        '--seconds', type=float, default=20, help='for each line of a table (default %(default)s)'
    )
    parser.add_argument('--json', metavar='OUT', help='write the figures to this file')
    return parser.parse_args(argv)


def read_shape(text: str) -> tuple[int, int]:
    """Read height and width.

    Raises:
        UserError: ``text`` is not of the form HxW.
    """
    parts = text.split('x')
    if len(parts) != 2 or not all(part.isdigit() and int(part) >= 32 for part in parts):
        raise UserError(f'--shapes {text}: write HxW, such as 480x640, of at least 32')
    return int(parts[0]), int(parts[1])


class TextbookClassifier(nn.Module):
    """The usual way to write the network, with a given head on it."""

    def __init__(self, widen_factor: float, head: nn.Module) -> None:
        super().__init__()
        self.backbone = TextbookShuffleNetV2(widen_factor)
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Map images, (N, 3, H, W), to scores, (N, 1000)."""
        return self.head(self.backbone(images))


def build_network(widen_factor: float, layout: str) -> dict[str, nn.Module]:
    """Build a classifier of 1000 classes, and its textbook form, with the same random weights.

    Raises:
        UserError: There is no such width.
    """
    torch.manual_seed(0)
    backbone = dict(type='ShuffleNetV2', widen_factor=widen_factor, layout=layout, out_indices=(4,))
    try:
        channels = MODELS.build(backbone).out_channels[0]
    except ValueError as error:
        raise UserError(f'--widths: {error}') from None
    head = dict(type='LinearHead', in_channels=channels, num_classes=1000)
    native = MODELS.build(dict(type='ImageClassifier', backbone=backbone, head=head))
    # Activations of the size of a trained network's: random weights let them fade to denormals.
    estimate_statistics(native.backbone.train(), iter([(torch.randn(4, 3, 96, 96),)]))
    native.eval()
    if layout == 'megvii':
        return dict(native=native)
    textbook = TextbookClassifier(widen_factor, native.head)
    textbook.backbone.load_state_dict(torchvision_names(native.backbone, textbook.backbone))
    return dict(textbook=textbook.eval(), native=native)


def torchvision_names(native: nn.Module, textbook: nn.Module) -> dict[str, Tensor]:
    """The tensors of our network by the names of the textbook's, which are torchvision's."""
    theirs = recognise(native, {name: name for name in textbook.state_dict()})[1]
    return {theirs[name]: value for name, value in native.state_dict().items()}


def build_forms(networks: dict[str, nn.Module], runtime: str) -> dict[str, nn.Module]:
    """Build what is timed in a runtime."""
    forms = dict(networks)
    for align in FORMATS[runtime].aligns if runtime in FORMATS else (1,):
        suffix = '' if align == 1 else f'-{align}'
        forms[FREE + suffix] = shuffle_free(networks['native'], align=align)
    return forms


def make_runs(
    forms: dict[str, nn.Module], runtime: str, shape: tuple[int, int], threads: int, folder: Path
) -> dict[str, Run]:
    """Make one inference of each form callable, after checking it against the plain network."""
    images = torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(0))
    runs: dict[str, Run] = {}
    for name, form in forms.items():
        reference = forms['native']
        if runtime == 'pytorch':
            runs[name] = eager(form, images)
            if not torch.allclose(runs[name](), reference(images), rtol=1e-3, atol=1e-4):
                raise RuntimeError(f'form {name} computes something else than the plain network')
            continue
        done = export(
            form, folder / f'{name}_{runtime}', runtime, (1, 3, *shape), reference=reference
        )
        network, array = FORMATS[runtime].load(done.paths, threads), images.numpy()
        runs[name] = functools.partial(network, array)
    return runs


def eager(form: nn.Module, images: Tensor) -> Run:
    """One inference in PyTorch, in the memory layout that is the faster one on CPUs."""
    form = form.to(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)

    def run() -> Tensor:
        with torch.inference_mode():
            return form(images)

    return run


def summarise(times: dict[str, np.ndarray]) -> dict:
    """The figures of one network, shape and runtime."""
    medians = {name: float(np.median(values)) for name, values in times.items()}
    free = fastest({name: times[name] for name in times if name.startswith(FREE)})
    usual = [name for name in PLAIN if name in times]
    return dict(
        rounds=len(times[free]),
        median_ms=medians,
        minimum_ms={name: float(values.min()) for name, values in times.items()},
        free=free,
        ratios={f'{name}/free': ratio(times[name], times[free]) for name in usual},
        fastest=fastest(times),
    )


def measure(args: argparse.Namespace) -> list[dict]:
    """Measure everything that the command line asks for."""
    shapes = [read_shape(text) for text in args.shapes]
    networks = {width: build_network(width, args.layout) for width in args.widths}
    jobs = list(itertools.product(networks, shapes, args.runtimes))
    torch.set_num_threads(args.threads)
    results = []
    for width, shape, runtime in tqdm(jobs, 'export and time', unit='line'):
        with tempfile.TemporaryDirectory() as folder:
            forms = build_forms(networks[width], runtime)
            runs = make_runs(forms, runtime, shape, args.threads, Path(folder))
            times = time_in_turns(runs, args.seconds)
        found = dict(runtime=runtime, widen_factor=width, shape=list(shape))
        results.append({**found, **summarise(times)})
    return results


def describe_machine(threads: int, runtimes: list[str]) -> dict:
    """What the figures depend on beside the networks."""
    used = [FORMATS[runtime].packages for runtime in runtimes if runtime in FORMATS]
    packages = ['torch', *itertools.chain.from_iterable(used)]
    return dict(
        processor=read_soc(Path('/')) or platform.processor(),
        architecture=platform.machine(),
        cores=os.cpu_count(),
        threads=threads,
        load_before=os.getloadavg()[0],
        versions={name: version(name) for name in packages},
    )


def report(results: list[dict], machine: dict, layout: str) -> str:
    """Format the figures as Markdown."""
    lines = []
    for runtime in dict.fromkeys(result['runtime'] for result in results):
        mine = [result for result in results if result['runtime'] == runtime]
        usual = [name for name in PLAIN if name in mine[0]['median_ms']]
        head = ['network', 'input', *(f'{name}, ms' for name in usual), 'free, ms']
        head += [name.replace('/', ' / ') for name in mine[0]['ratios']]
        lines += [
            f'## {NAMES[runtime]}\n',
            markdown_table(head, [row(result, usual) for result in mine]),
        ]
        best = ', '.join(f'{network(result)}: {result["fastest"]}' for result in mine)
        lines += [f'\nFastest form: {best}.\n']
    versions = ', '.join(f'{name} {number}' for name, number in machine['versions'].items())
    lines += [
        LEGEND,
        f'\nClassifiers of 1000 classes, layout {layout}, batch 1, float32, '
        f'{machine["threads"]} thread(s); {machine["processor"]} ({machine["architecture"]}); '
        f'{versions}; load of the machine before the run {machine["load_before"]:.1f}.',
    ]
    return '\n'.join(lines)


def network(result: dict) -> str:
    """Name a network with its input."""
    return f'{result["widen_factor"]}x at {"x".join(map(str, result["shape"]))}'


def row(result: dict, usual: list[str]) -> list[str]:
    """A row of the table."""
    free, medians = result['free'], result['median_ms']
    times = [f'{medians[name]:.2f}' for name in usual]
    times += [f'{medians[free]:.2f} ({free})']
    ratios = [
        f'{value["median"]:.2f} ({value["low"]:.2f} to {value["high"]:.2f})'
        for value in result['ratios'].values()
    ]
    return [f'{result["widen_factor"]}x', 'x'.join(map(str, result['shape'])), *times, *ratios]


def main() -> None:
    """Measure and print."""
    args = parse_args()
    if args.threads < 1:
        raise UserError(f'--threads {args.threads}: give a number from 1')
    init_default_scope('mmdet')
    for runtime in set(args.runtimes) - {'pytorch'}:
        FORMATS[runtime].require()
    machine = describe_machine(args.threads, args.runtimes)
    results = measure(args)
    print(report(results, machine, args.layout))
    if args.json:
        content = dict(machine=machine, layout=args.layout, results=results)
        write_json(content, args.json)


if __name__ == '__main__':
    cli.run(main)
