#!/usr/bin/env python3
"""What the loop of the latency tool adds to a bare loop around the runtime.

Both time the same loaded network of ShuffleNet V1's Table 8, block by block in turn, on this
machine. Needs an idle one.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mmengine.registry import init_default_scope
from tqdm import tqdm

from mmshuffle.deploy.timing import ratio
from mmshuffle.engine import cli
from mmshuffle.engine.files import write_json
from mmshuffle.errors import UserError
from mmshuffle.latency.device.loop import time_block
from mmshuffle.latency.device.runtimes import load
from mmshuffle.latency.plan import Case, Plan, Setting
from mmshuffle.latency.suites import suite
from mmshuffle.reporting import markdown_table

EXAMPLE = """example:
  python tools/benchmarks/latency.py --runtimes ncnn --seconds 10
"""
RUNTIMES = ('onnxruntime', 'ncnn')
BLOCK = 0.1  # seconds


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--runtimes', nargs='+', choices=RUNTIMES, default=list(RUNTIMES))
    parser.add_argument(
        '--seconds', type=float, default=20, help='for each network (default %(default)s)'
    )
    parser.add_argument('--json', metavar='OUT', help='write the figures to this file')
    return parser.parse_args(argv)


def time_bare(call: Callable[[], object], loops: int) -> float:
    """Milliseconds of a run, by a clock around all of them."""
    call()
    start = time.perf_counter()
    for _ in range(loops):
        call()
    return (time.perf_counter() - start) * 1e3 / loops


def compare(case: Case, folder: Path, seconds: float) -> dict:
    """Time a network by both loops in turn, each of them first in every other round."""
    call = load(case.as_run(), folder).call
    loops = max(1, round(BLOCK * 1e3 / time_bare(call, 5)))
    loop, bare = [], []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(loop) < 6:
        if len(loop) % 2:
            bare.append(time_bare(call, loops))
        loop.append(float(np.mean(time_block(call, loops, 0.0))))
        if len(bare) < len(loop):
            bare.append(time_bare(call, loops))
    return dict(
        network=case.network.name,
        runtime=case.setting.runtime,
        rounds=len(loop),
        runs_of_a_block=loops,
        bare_ms=float(np.median(bare)),
        loop_ms=float(np.median(loop)),
        ratio=ratio(np.array(loop), np.array(bare)),
    )


def row(result: dict) -> list[str]:
    """A row of the table."""
    value = result['ratio']
    return [
        f'{result["network"]}, {result["runtime"]}',
        f'{result["bare_ms"]:.3f}',
        f'{result["loop_ms"]:.3f}',
        f'{value["median"]:.4f} ({value["low"]:.4f} to {value["high"]:.4f})',
    ]


def main() -> None:
    """Measure and print."""
    args = parse_args()
    if not args.seconds > 0:
        raise UserError(f'--seconds {args.seconds}: give a number above 0')
    init_default_scope('mmdet')
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = Plan(folder)
        settings = [Setting(runtime) for runtime in args.runtimes]
        for network, shapes in tqdm(suite('shufflenet_v1/table8', ((224, 224),)), 'export'):
            for _ in plan.add(network, shapes, settings):
                pass
        for wanted, path in plan.files.items():
            path.replace(folder / wanted)
        for case in tqdm(plan.cases, 'time', unit='network'):
            results.append(compare(case, folder, args.seconds))
    head = ['network, 224x224, 1 thread', 'bare loop, ms', "tool's loop, ms", 'ratio']
    print(markdown_table(head, map(row, results)))
    print(
        '\nMilliseconds are medians of the blocks, a ratio is the median of the ratios within a '
        'round, with its 95 % interval.'
    )
    if args.json:
        write_json(results, args.json)


if __name__ == '__main__':
    cli.run(main)
