#!/usr/bin/env python3
"""Write a trained network as ONNX, ncnn or TorchScript, and check it against PyTorch.

A file is kept only if its runtime computes what PyTorch computes.
"""

import argparse
import functools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn
from tqdm import tqdm

import mmshuffle  # noqa: F401  (registers everything)
from mmshuffle.checks.dataset import check_dataset
from mmshuffle.checks.detector import raise_on
from mmshuffle.deploy import FORMATS, ExportReport, export
from mmshuffle.deploy.detections import evaluate, predict
from mmshuffle.deploy.export import check_request
from mmshuffle.deploy.formats import Format
from mmshuffle.deploy.forms import FORMS, Form
from mmshuffle.deploy.model import PARTS, Part, build_model, cut, default_part
from mmshuffle.deploy.timing import fastest, time_in_turns
from mmshuffle.engine import cli
from mmshuffle.engine.config import read_config
from mmshuffle.engine.files import write_json
from mmshuffle.errors import UserError

EXAMPLE = """examples:
  python tools/export.py configs/imagenet/shufflenet_v2/shufflenetv2-x1.0_300k_imagenet.py \\
      work_dirs/shufflenetv2-x1.0_300k_imagenet/epoch_240.pth --format ncnn --shuffle free
  python tools/export.py configs/finetune/bccd.py work_dirs/bccd/epoch_12.pth \\
      --shape 320 427 --image data/bccd/JPEGImages/BloodImage_00007.jpg --evaluate
"""
FASTEST = 'fastest'
TRIAL_SECONDS = 5
DEFAULT_SHAPE = (224, 224)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file of a classifier or detector')
    parser.add_argument('checkpoint', help="weights, or 'none' for random ones")
    parser.add_argument(
        '--format', choices=list(FORMATS), default='onnx', help='default %(default)s'
    )
    parser.add_argument(
        '--shuffle',
        choices=(*FORMS, FASTEST),
        default=FASTEST,
        help='form of the channel shuffles, all of the same function: as PyTorch computes them, '
        'each as one gather of channels, absorbed in the weights, or the fastest of these in the '
        'runtime on this machine (default)',
    )
    parser.add_argument(
        '--align',
        type=int,
        default=1,
        metavar='N',
        help='with --shuffle free: fill channels with zeros up to a multiple of N, which is faster '
        'where the runtime works on blocks of N; 8 or 16 for ONNX Runtime on x86',
    )
    parser.add_argument(
        '--part',
        choices=PARTS,
        help='what to write (default: the whole classifier or detector; a detector in ONNX only)',
    )
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='height and width of the image in pixels, of a detector as its test pipeline makes '
        'it; 224 224 for a classifier, to be given for a detector',
    )
    parser.add_argument('--dynamic-batch', action='store_true', help='let the batch be of any size')
    parser.add_argument(
        '--normalise',
        action=argparse.BooleanOptionalAction,
        help='take images in 0 to 255 and normalise them in the graph; the default for a '
        'classifier and a detector, but not for a backbone and a neck',
    )
    parser.add_argument('--image', help='picture to check on (default: a drawn one)')
    parser.add_argument(
        '--evaluate',
        action='store_true',
        help="evaluate a whole detector on the config's test set, resized to --shape, with ONNX "
        'Runtime and with PyTorch',
    )
    parser.add_argument('--out', help='file to write (default: a name in work_dirs/CONFIG/)')
    parser.add_argument('--json', metavar='OUT', help='write what is printed to this file')
    cli.add_config_options(parser)
    return parser.parse_args(argv)


def check(args: argparse.Namespace, part: str) -> tuple[int, int]:
    """Refuse options that do not go together, and return the shape.

    Raises:
        UserError: See the messages.
    """
    if args.align < 1 or (args.align > 1 and args.shuffle != 'free'):
        raise UserError(f'--align {args.align}: give a number from 1, with --shuffle free')
    if part == 'detector':
        if args.format != 'onnx':
            raise UserError(
                f'{args.format} has no NMS and RoIAlign: add --part neck, or --format onnx'
            )
        if args.dynamic_batch:
            raise UserError('a whole detector takes one image: leave --dynamic-batch out')
    elif args.evaluate:
        raise UserError('--evaluate is for a whole detector: leave it or --part out')
    if args.shape is None and part != 'classifier':
        raise UserError('give --shape H W, the size of the image that the network gets')
    shape = tuple(args.shape or DEFAULT_SHAPE)
    if min(shape) < 32:
        raise UserError(f'--shape {shape[0]} {shape[1]}: give two numbers of at least 32')
    return shape


def read_picture(path: str, shape: tuple[int, int]) -> Tensor:
    """Read an image file as (1, 3, H, W), BGR in 0 to 255, resized to ``shape``.

    Raises:
        UserError: It is no image.
    """
    image = cv2.imread(path)
    if image is None:
        raise UserError(f'--image {path} is missing or no image: give an image file')
    resized = cv2.resize(image, shape[::-1])
    return torch.from_numpy(resized).permute(2, 0, 1)[None].float()


def export_part(
    model: nn.Module,
    args: argparse.Namespace,
    part: str,
    shape: tuple[int, int],
    picture: Tensor | None,
    form: Form,
    path: Path,
) -> tuple[Part, ExportReport]:
    """Cut the part out, rewrite its shuffles, write it, and check it on the picture."""
    cut_out = cut(model, part, shape, form.rewrite, args.normalise, picture)
    batch = args.dynamic_batch
    return cut_out, export(
        cut_out.module, path, args.format, (1, 3, *shape), batch, **cut_out.options
    )


def find_fastest(write: Callable[[Form, Path], tuple[Part, ExportReport]], written: Format) -> Form:
    """Time all forms in the runtime, single-threaded, and choose the fastest.

    A form that the network or the format does not have is left out, and nothing is timed where only
    the native one is left.
    """
    forms = [Form(name) for name in FORMS] + [Form('free', n) for n in written.aligns if n > 1]
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        for form in tqdm(forms, 'export the forms', unit='form'):
            try:
                cut_out, done = write(form, Path(folder, str(form)))
            except UserError:
                if form.name == 'native':
                    raise
                continue
            images = cut_out.options.get('images', torch.zeros(done.input_shape)).numpy()
            runs[form] = functools.partial(written.load(done.paths, threads=1), images)
        if len(runs) == 1:
            return forms[0]
        times = time_in_turns(runs, TRIAL_SECONDS)
    medians = ', '.join(f'{form} {np.median(ms):.2f} ms' for form, ms in times.items())
    best = fastest(times)
    print(f'on this machine, one thread: {medians}; the fastest, {best}, is written')
    return best


def default_path(args: argparse.Namespace, part: str, shape: tuple[int, int], form: Form) -> Path:
    """A name that tells what is in the file."""
    stem = Path(args.config).stem
    name = f'{part}_{form}_{shape[0]}x{shape[1]}'
    return Path('work_dirs', stem, name + FORMATS[args.format].suffixes[0])


def report(title: str, cut_out: Part, done: ExportReport) -> str:
    """Format what was written."""
    batch = 'N' if done.dynamic_batch else '1'
    sizes = 'x'.join(map(str, done.input_shape[1:]))
    outputs = ', '.join(
        f'{name} {"x".join(map(str, shape))}'
        for name, shape in zip(done.output_names, done.output_shapes, strict=True)
    )
    return '\n'.join(
        [
            title,
            f'input    {batch}x{sizes} float32: {cut_out.input}',
            f'outputs  {outputs}',
            f'nodes    {sum(done.nodes.values())}: '
            + ', '.join(f'{kind} {count}' for kind, count in done.nodes.items()),
            f'size     {done.size / 1e6:.2f} MB',
            f'differs from PyTorch by {done.difference:.1e} {cut_out.measure}',
            *(f'written  {path}' for path in done.paths),
        ]
    )


def compare_figures(cfg: Config, model: nn.Module, path: Path, shape: tuple[int, int]) -> dict:
    """Evaluate the exported detector and PyTorch's on the same images."""
    run = FORMATS['onnx'].load([path])

    def with_runtime(image: Tensor) -> list[Tensor]:
        return [torch.from_numpy(out) for out in run(image[None].numpy().astype(np.float32))]

    def with_pytorch(image: Tensor) -> list[Tensor]:
        found = predict(model, image)
        return [found.bboxes, found.scores, found.labels]

    figures = {}
    for name, detect in (('ONNX Runtime', with_runtime), ('PyTorch', with_pytorch)):
        figures[name] = evaluate(cfg, shape, detect, name)
    return figures


def main() -> None:
    """Export, check and report."""
    args = parse_args()
    cfg = read_config(args.config, args.cfg_options)
    part = args.part or default_part(cfg)
    shape = check(args, part)
    if args.evaluate:
        raise_on(check_dataset(cfg, cfg.test_dataloader.dataset, 'test_dataloader.dataset'))
    FORMATS[args.format].require()
    if args.out:  # before all forms are exported and timed
        check_request(FORMATS[args.format], Path(args.out), (1, 3, *shape), args.dynamic_batch)
    picture = None if args.image is None else read_picture(args.image, shape)
    checkpoint = None if args.checkpoint == 'none' else args.checkpoint
    model = build_model(cfg, checkpoint, part)
    write = functools.partial(export_part, model, args, part, shape, picture)
    if args.shuffle == FASTEST:
        form = find_fastest(write, FORMATS[args.format])
    else:
        form = Form(args.shuffle, args.align)
    path = Path(args.out) if args.out else default_path(args, part, shape, form)
    cut_out, done = write(form, path)
    if not done.conclusive:
        print(
            'warning: another image hardly changes the outputs, so a wrong file might have passed: '
            'give a trained checkpoint, or another --image',
            file=sys.stderr,
        )
    title = f'{Path(args.config).stem}: {part}, {args.format}, shuffle {form}'
    print(report(title, cut_out, done))
    content = dict(config=args.config, checkpoint=args.checkpoint, part=part)
    content |= dict(shuffle=form.name, align=form.align, **done.as_dict())
    if args.evaluate:
        content['figures'] = compare_figures(cfg, model, done.paths[0], shape)
        for name, figures in content['figures'].items():
            print(f'{name:12} ' + ', '.join(f'{k} {v:.4f}' for k, v in figures.items()))
    if args.json:
        write_json(content, args.json)


if __name__ == '__main__':
    cli.run(main)
