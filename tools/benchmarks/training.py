#!/usr/bin/env python3
"""Time training steps side by side: of the backbone, or of detectors.

Both sides of a comparison take turns in one process, so that a drift of the machine hits both. Run
it with nothing else running: two busy processes on two cores slow each other many times over.
"""

import argparse
import contextlib
import io
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch
from mmdet.registry import MODELS
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from tqdm import tqdm

from mmshuffle.backbones import ShuffleNetV2, layers, shufflenet_v2
from mmshuffle.data.finetune import apply_dataset, find_dataset
from mmshuffle.data.synthetic import draw_dataset
from mmshuffle.engine import cli, set_memory_format, shipped
from mmshuffle.engine.config import read_config, register_config_imports
from mmshuffle.engine.files import write_json
from mmshuffle.engine.memory_format import MEMORY_FORMATS
from mmshuffle.errors import UserError
from mmshuffle.reporting import markdown_table

EXAMPLE = """examples:
  python tools/benchmarks/training.py
  python tools/benchmarks/training.py --device cuda --variants --out training.json
  python tools/benchmarks/training.py faster-rcnn_shufflenetv1-x1.0-g3_c4-300_1x_coco \
      light-head-rcnn_shufflenetv1-x1.0-g3_8xb2-20e_coco --rounds 5
"""
DIGITS = {'median_ms': 1, 'min_ms': 1, 'max_ms': 1, 'speedup': 2, 'peak_mib': 0}
VARIANTS = ('channels_last', 'amp', 'amp, channels_last', 'compile', 'compile, amp, channels_last')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.make_parser(__doc__, EXAMPLE)
    text = 'detectors to time in place of the backbone'
    parser.add_argument('configs', nargs='*', metavar='CONFIG', help=text)
    parser.add_argument('--device', default='cpu', help='cpu or cuda (default %(default)s)')
    parser.add_argument('--threads', type=int, help="CPU threads; PyTorch's choice by default")
    text, count = 'timed steps (default %(default)s)', dict(type=cli.at_least(1), default=20)
    parser.add_argument('--rounds', metavar='N', help=text, **count)
    text = 'images a step (default 8, of detectors 2)'
    parser.add_argument('--batch-size', type=cli.at_least(1), metavar='N', help=text)
    layouts = dict(nargs='+', choices=list(MEMORY_FORMATS), default=['contiguous'])
    parser.add_argument('--memory-format', help='of detectors (default contiguous)', **layouts)
    text = 'time channels_last, mixed precision and torch.compile of the backbone too'
    parser.add_argument('--variants', action='store_true', help=text)
    parser.add_argument('--out', help='write the figures to this JSON file')
    args = parser.parse_args(argv)
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        raise UserError(f'--device {args.device}: PyTorch sees no GPU here; use --device cpu')
    args.batch_size = args.batch_size or (2 if args.configs else 8)
    return args


def backbone_steps(args: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """Training steps of ShuffleNetV2 1x at 224x224, with its last convolution."""
    images = torch.randn(args.batch_size, 3, 224, 224, device=args.device)

    def step(net: torch.nn.Module, channels_last: bool = False, amp: bool = False) -> Callable:
        net.to(args.device).train()
        layout = torch.channels_last if channels_last else torch.contiguous_format
        net.to(memory_format=layout)
        x = images.contiguous(memory_format=layout)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
        dtype = torch.float16 if args.device.startswith('cuda') else torch.bfloat16
        scaler = torch.amp.GradScaler(enabled=amp and dtype == torch.float16)

        def run() -> None:
            optimizer.zero_grad()
            with torch.autocast(args.device.split(':')[0], dtype=dtype, enabled=amp):
                loss = net(x)[-1].float().mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

        return run

    def ours(layout: str) -> ShuffleNetV2:
        return ShuffleNetV2(1.0, layout, out_indices=(4,))

    def textbook() -> None:
        """Concatenation, shuffle and split one after another, as a graph for other runtimes has."""
        with exporting[0], exporting[1]:
            plain()

    plain = step(ours('torchvision'))
    exporting = [patch.object(m, 'is_exporting', lambda: True) for m in (layers, shufflenet_v2)]
    steps = {
        'textbook': textbook,
        'mmshuffle, torchvision layout': step(ours('torchvision')),
        'mmshuffle, megvii layout': step(ours('megvii')),
    }
    for variant in VARIANTS if args.variants else ():
        network, words = ours('torchvision'), variant.split(', ')
        network = torch.compile(network) if 'compile' in words else network
        steps[variant] = step(network, 'channels_last' in words, 'amp' in words)
    return steps


def detector_steps(args: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """Training steps of detectors at 480x320, with drawn images as input."""
    loading = dict(num_workers=0, persistent_workers=False, batch_size=args.batch_size)

    def step(data: str, config: str, layout: str) -> Callable[[], None]:
        cfg = read_config(config)
        register_config_imports(cfg)
        apply_dataset(cfg, find_dataset(data))
        # Random weights, whose features would not stay finite with statistics of 0 and 1.
        cfg.model.backbone.update(init_cfg=None, norm_eval=False)
        if shared := cfg.model.get('roi_head', {}).get('shared_head'):
            shared.init_cfg = None
            shared.backbone.norm_eval = False
        cfg.train_dataloader.update(loading)
        for transform in cfg.train_dataloader.dataset.pipeline:
            if transform.type == 'Resize':
                transform.scale = (480, 320)
        torch.manual_seed(0)
        detector = MODELS.build(cfg.model)
        detector.init_weights()
        detector.to(args.device).train()
        set_memory_format(detector, layout)
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools
            batches = list(Runner.build_dataloader(cfg.train_dataloader, seed=0))
        optimizer = torch.optim.SGD(detector.parameters(), lr=0.005, momentum=0.9)
        turns = itertools.cycle(batches)

        def run() -> None:
            data = detector.data_preprocessor(next(turns), training=True)
            loss, _ = detector.parse_losses(detector(**data, mode='loss'))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(detector.parameters(), 35)
            optimizer.step()

        return run

    # The batches are read here: the pictures are not needed any more afterwards.
    with tempfile.TemporaryDirectory() as folder:
        data = f'{folder}/drawn'
        draw_dataset(data, 16, 4, size=(480, 320), progress=False)
        runs = itertools.product(map(shipped.resolve, args.configs), args.memory_format)
        return {f'{Path(path).stem}, {f}': step(data, path, f) for path, f in runs}


def measure(steps: dict[str, Callable[[], None]], args: argparse.Namespace) -> dict[str, dict]:
    """Run every step in turn, ``rounds`` times over, after a warm-up."""
    cuda = args.device.startswith('cuda')
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in tqdm(range(args.rounds + 3), desc='rounds', file=sys.stderr):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if cuda:
                torch.cuda.synchronize()
            if number >= 3:
                times[name].append(time.perf_counter() - start)
    first = next(iter(times.values()))
    return {
        name: dict(
            median_ms=1e3 * statistics.median(values),
            min_ms=1e3 * min(values),
            max_ms=1e3 * max(values),
            # Pair by pair, so that a slow spell counts on both sides.
            speedup=statistics.median(a / b for a, b in zip(first, values, strict=True)),
            peak_mib=peak_memory(steps[name], cuda),
        )
        for name, values in times.items()
    }


def peak_memory(step: Callable[[], None], cuda: bool) -> float:
    """Peak of the memory that a step takes above what is held between steps, in MiB."""
    if cuda:
        torch.cuda.synchronize()
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - held) / 2**20
    with torch.profiler.profile(profile_memory=True) as profiler:
        step()
    changes = (
        event.nbytes()
        for event in profiler.profiler.kineto_results.events()
        if event.name() == '[memory]' and event.device_type() == torch.profiler.DeviceType.CPU
    )
    return max(itertools.accumulate(changes, initial=0)) / 2**20


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = parse_args(argv)
    MMLogger.get_instance('mmengine', log_level='WARNING')
    if args.threads:
        torch.set_num_threads(args.threads)
    if (load := os.getloadavg()[0]) > 0.5:
        text = f'warning: the load is {load:.1f}; figures of a busy machine mislead'
        print(text, file=sys.stderr)
    result = dict(
        torch=torch.__version__,
        device=torch.cuda.get_device_name() if args.device.startswith('cuda') else 'cpu',
        threads=torch.get_num_threads(),
        load=load,
    )
    title = 'detectors, 480x320' if args.configs else 'ShuffleNetV2 1x, 224x224'
    steps = (detector_steps if args.configs else backbone_steps)(args)
    result['steps'] = found = measure(steps, args)
    rows = [
        [name, *(f'{row[key]:.{n}f}' for key, n in DIGITS.items())] for name, row in found.items()
    ]
    print(f'{title}, batch {args.batch_size}, {result["threads"]} threads\n')
    print(markdown_table(['step', *DIGITS], rows))
    if args.out:
        write_json(result, args.out)


if __name__ == '__main__':
    cli.run(main)
