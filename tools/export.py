#!/usr/bin/env python3
"""Write a trained network as ONNX, ncnn or TorchScript, and check it against PyTorch.

A file is kept only if its runtime computes what PyTorch computes.
"""

import argparse
import dataclasses
import functools
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn
from tqdm import tqdm

import mmshuffle  # noqa: F401  (registers everything)
from mmshuffle.checks import check_datasets, is_classifier_config, raise_on
from mmshuffle.deploy import FORMATS, ExportReport, board, export
from mmshuffle.deploy.accuracy import Pictures, Preparing, data_paths, in_runtime, points
from mmshuffle.deploy.detections import evaluate
from mmshuffle.deploy.detector import Detector, picture_facts
from mmshuffle.deploy.export import check_arguments, folder_beside, replace_all
from mmshuffle.deploy.fold import fold_batchnorm
from mmshuffle.deploy.formats import Format, Inference, Unsupported
from mmshuffle.deploy.forms import DEVICES, FORMS, NATIVE, ShuffleForm
from mmshuffle.deploy.part import Part, cut
from mmshuffle.deploy.quantise import METHODS, Recipe
from mmshuffle.deploy.quantise_gate import Int8
from mmshuffle.deploy.shuffle_free import has_shuffle
from mmshuffle.engine import cli
from mmshuffle.engine.files import write_json
from mmshuffle.engine.network import (
    PARTS,
    input_channels,
    list_parts,
    load_model,
    load_model_config,
)
from mmshuffle.errors import UserError
from mmshuffle.latency.device import loop

EXAMPLE = """examples:
  python tools/export.py shufflenetv2-x1.0 \\
      work_dirs/shufflenetv2-x1.0_8xb128-300k_imagenet/epoch_240.pth --format ncnn --shuffle free
  python tools/export.py bccd work_dirs/bccd/epoch_12.pth \\
      --shape 320 427 --image data/bccd/JPEGImages/BloodImage_00007.jpg --evaluate
  python tools/export.py bccd work_dirs/bccd/epoch_12.pth --shape 320 427 \\
      --int8 --calibrate bccd
"""
AUTO, FASTEST = 'auto', 'fastest'
# Of each form, block by block in turn, at least.
TRIAL = dict(
    **dict(loops=15, seconds=1.5, block_loops=3, block_seconds=0.0),
    **dict(warmup_loops=1, warmup_seconds=0.0),
)
DEFAULT_SHAPE = (224, 224)
FLAG = dict(action='store_true')
OPTIONS = {
    '--format': dict(choices=list(FORMATS), default='onnx'),
    '--shuffle': dict(default=AUTO, metavar='FORM'),
    '--device': dict(choices=DEVICES),
    '--precision': dict(choices=('fp16', 'fp32')),
    '--part': dict(choices=PARTS),
    '--shape': dict(nargs=2, type=int, metavar=('H', 'W')),
    '--dynamic-batch': FLAG,
    '--normalise': dict(action=argparse.BooleanOptionalAction),
    '--image': {},
    '--evaluate': FLAG,
    '--out': {},
    '--json': dict(metavar='OUT'),
}
INT8_OPTIONS = {
    '--int8': FLAG,
    '--calibrate': dict(metavar='FOLDER|CONFIG'),
    '--calibration-images': dict(type=int, metavar='N'),
    '--ranges': dict(choices=METHODS),
    '--keep-fp32': dict(nargs='+', metavar='LAYER'),
    '--per-tensor': FLAG,
    '--max-drop': dict(type=float, metavar='POINTS'),
    '--test-images': dict(type=int, metavar='N'),
    '--layer-errors': FLAG,
}
HELP = {
    '--format': 'default %(default)s',
    '--shuffle': 'form of the channel shuffles, all of the same function: native, as PyTorch '
    'computes them; free, absorbed in the weights; free-N, with channels filled with zeros up to a '
    'multiple of N, for runtimes that work on blocks of N; fastest, whatever that is in the '
    'runtime on this machine; auto (default), by the rule for --device and --precision',
    '--device': 'with --shuffle auto: the processor that will run the file (default arm)',
    '--precision': 'with --shuffle auto: what the runtime will compute in, which ncnn chooses when '
    'it loads the file (default fp16 for ncnn on ARM, as phones do, else fp32)',
    '--part': 'what to write (default: the whole classifier or detector; two stages in ONNX only)',
    '--shape': 'height and width of the image in pixels, of a detector as its test pipeline makes '
    'it; 224 224 for a classifier, to be given for a detector',
    '--dynamic-batch': 'let the batch be of any size',
    '--normalise': 'take images in 0 to 255 and normalise them in the graph; the default for a '
    'classifier and a detector, but not for a backbone and a neck',
    '--image': 'picture to check on (default: a drawn one)',
    '--evaluate': "evaluate a whole detector on the config's test set, as a board runs it and with "
    'PyTorch',
    '--out': 'file to write (default: a name in work_dirs/CONFIG/)',
    '--json': 'write what is printed to this file',
    '--int8': 'write int8 (ONNX, ncnn)',
    '--calibrate': 'pictures that show the ranges of the activations, other than the test ones: a '
    'folder, or a config for its training set',
    '--calibration-images': 'how many of them, evenly spread (default 100)',
    '--ranges': 'of activations: all values that were seen (minmax, the default), or without rare '
    'large ones, by relative entropy',
    '--keep-fp32': 'layers that stay in fp32: first, last, names, or patterns such as '
    "'backbone.stages.0.*'",
    '--per-tensor': 'one scale a weight instead of one a channel; costs most networks their '
    'accuracy',
    '--max-drop': 'of top-1 or AP; a file that loses more is not kept (default 1; inf keeps any)',
    '--test-images': 'how many of the test set, evenly spread (default all; 0 keeps a file unseen)',
    '--layer-errors': 'name the worst layers also where the file is kept',
}
Exported = tuple[ShuffleForm, Part, ExportReport]
Write = Callable[[ShuffleForm, Path], tuple[Part, ExportReport]]
Name = Callable[[ShuffleForm], Path]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.make_parser(__doc__, EXAMPLE)
    parser.add_argument('config', help='path of a config, or name of a shipped one')
    parser.add_argument('checkpoint', help="weights, or 'none' for random ones")
    int8 = parser.add_argument_group(
        'int8',
        'weights and activations in 8 bits, if the accuracy on the test set of the config stays',
    )
    for group, options in ((parser, OPTIONS), (int8, INT8_OPTIONS)):
        for option, settings in options.items():
            group.add_argument(option, help=HELP[option], **settings)
    cli.add_config_options(parser)
    return parser.parse_args(argv)


def check(args: argparse.Namespace, part: str, two_stages: bool) -> tuple[int, int]:
    """Refuse options that do not go together, and return the shape."""
    if args.shuffle not in (AUTO, FASTEST):
        ShuffleForm.parse(args.shuffle)
    if args.shuffle != AUTO and (args.device or args.precision):
        raise UserError('--device and --precision choose the form: leave --shuffle out with them')
    if args.precision and args.precision not in FORMATS[args.format].precisions:
        raise UserError(f'--precision {args.precision}: {args.format} files compute in fp32 here')
    if part == 'detector':
        if args.format != 'onnx' and two_stages:
            raise UserError(
                f'{args.format} has no NMS and RoIAlign: add --part neck, or --format onnx'
            )
        if args.format not in ('onnx', 'ncnn'):
            raise UserError(f'{args.format} runs on no board: add --part neck, or --format onnx')
        if args.dynamic_batch:
            raise UserError('a whole detector takes one image: leave --dynamic-batch out')
    elif args.evaluate:
        raise UserError('--evaluate is for a whole detector: leave it or --part out')
    if args.shape is None and part != 'classifier':
        raise UserError('give --shape H W, the size of the image that the network gets')
    check_int8(args)
    shape = tuple(args.shape or DEFAULT_SHAPE)
    if min(shape) < 32:
        raise UserError(f'--shape {shape[0]} {shape[1]}: give two numbers of at least 32')
    return shape


def check_int8(args: argparse.Namespace) -> None:
    """Refuse options of int8 that do not go together."""
    given = {option: getattr(args, option[2:].replace('-', '_')) for option in INT8_OPTIONS}
    if not args.int8:
        for option, value in given.items():
            if value is not None and value is not False:
                raise UserError(f'{option}: add --int8, or leave it out')
        return
    if args.calibrate is None:
        raise UserError('--int8: add --calibrate, a folder of pictures or a config')
    if args.shuffle == FASTEST:
        raise UserError('--shuffle fastest: with --int8, name a form, or leave it out')
    if args.dynamic_batch:
        raise UserError('--int8: leave --dynamic-batch out')
    for option, least in (('--calibration-images', 1), ('--test-images', 0), ('--max-drop', 0)):
        if given[option] is not None and not given[option] >= least:
            raise UserError(f'{option} {given[option]}: give at least {least}')


def read_picture(path: str, shape: tuple[int, int], channels: int) -> Tensor:
    """Read an image file as (1, channels, H, W), BGR in 0 to 255, resized to ``shape``.

    Raises:
        UserError: It is no image, or one of other channels.
    """
    modes = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}
    image = cv2.imread(path, modes.get(channels, cv2.IMREAD_UNCHANGED))
    if image is None:
        raise UserError(f'--image {path} is missing or no image: give an image file')
    resized = torch.from_numpy(cv2.resize(image, shape[::-1])).float()
    picture = resized.reshape(1, *shape, -1).permute(0, 3, 1, 2)
    if picture.shape[1] != channels:
        raise UserError(
            f'--image {path} has {picture.shape[1]} channels: give one of {channels}, as the '
            'network takes'
        )
    return picture


def choose_form(model: nn.Module, args: argparse.Namespace) -> ShuffleForm:
    """The form that the command line asks for, by name or by rule."""
    if args.shuffle != AUTO:
        return ShuffleForm.parse(args.shuffle)
    if not has_shuffle(model):
        return NATIVE
    device = args.device or DEVICES[0]
    usual = FORMATS[args.format].precisions[0] if device == 'arm' else 'fp32'
    precision = args.precision or usual
    form = ShuffleForm.parse(FORMS.get((args.format, device, precision), 'free'))
    print(f'shuffle {form}, by the rule for {args.format} on {device} in {precision}')
    return form


def export_fastest(write: Write, format: Format, name: Name) -> Exported:
    """Time all forms in the runtime, single-threaded, and keep the fastest.

    A form that the network or the format does not have is left out, and told.
    """
    forms = [NATIVE, *map(ShuffleForm.parse, format.forms)]
    written, runs = {}, {}
    with folder_beside(name(NATIVE)) as folder:
        for form in tqdm(forms, 'export the forms', unit='form'):
            try:
                cut_out, done = write(form, folder / str(form))
            except Unsupported as reason:
                if form == NATIVE:
                    raise
                print(f'left out: {form}: {reason}', file=sys.stderr)
                continue
            images = cut_out.options.get('images', torch.zeros(done.input_shape)).numpy()
            runs[form] = functools.partial(format.load(done.paths, threads=1), images)
            written[form] = cut_out, done
        times: dict[ShuffleForm, list[float]] = {form: [] for form in runs}
        series = list(times.values())
        loop.measure(list(runs.values()), TRIAL, lambda n, block, *_: series[n].extend(block))
        medians = {form: float(np.median(ms)) for form, ms in times.items()}
        best = min(medians, key=medians.__getitem__)
        said = ', '.join(f'{form} {ms:.2f} ms' for form, ms in medians.items())
        print(f'on this machine, one thread: {said}; the fastest, {best}, is kept')
        cut_out, done = written[best]
        paths = format.paths(name(best))
        replace_all(done.paths, paths)
    return best, cut_out, dataclasses.replace(done, paths=paths)


def export_form(write: Write, form: ShuffleForm, name: Name, strict: bool) -> Exported:
    """Write one form, or the native one, with a word, where a rule chose what cannot be written."""
    try:
        return form, *write(form, name(form))
    except Unsupported as reason:
        if strict or form == NATIVE:
            raise
        print(f'shuffle native instead of {form}: {reason}', file=sys.stderr)
        return NATIVE, *write(NATIVE, name(NATIVE))


def file_path(
    args: argparse.Namespace, part: str, shape: tuple[int, int], form: ShuffleForm
) -> Path:
    """The file that is asked for, or one whose name tells what is in it."""
    if args.out:
        return Path(args.out)
    name = f'{part}_{form}_{shape[0]}x{shape[1]}' + '_int8' * args.int8
    return Path('work_dirs', Path(args.config).stem, name + FORMATS[args.format].suffixes[0])


def report(title: str, cut_out: Part, done: ExportReport) -> str:
    """Format what was written."""
    batch = 'N' if done.dynamic_batch else '1'
    sizes = 'x'.join(map(str, done.input_shape[1:]))
    outputs = ', '.join(
        f'{name} {"x".join(map(str, shape))}'
        for name, shape in zip(done.output_names, done.output_shapes, strict=True)
    )
    kinds = ', '.join(f'{kind} {count}' for kind, count in done.nodes.items())
    lines = [
        title,
        f'input    {batch}x{sizes} float32: {cut_out.input}',
        f'outputs  {outputs}',
        f'nodes    {sum(done.nodes.values())}: {kinds}',
        f'size     {done.size / 1e6:.2f} MB',
        f'{"in fp32 it differed" if "convert" in cut_out.options else "differs"} from PyTorch by '
        f'{done.difference:.1e} {cut_out.measure}',
        *(f'written  {path}' for path in done.paths),
    ]
    return '\n'.join(lines)


def make_int8(
    args: argparse.Namespace, cfg: Config, model: nn.Module, part: str, cut_out: Part
) -> Int8:
    """What ``--int8`` asks for.

    Raises:
        UserError: Pictures are missing, or are those of the test set.
    """
    facts = None if is_classifier_config(cfg) else picture_facts(cfg, model)
    prepare = Preparing(cfg, args.shape or DEFAULT_SHAPE, facts)
    pictures = Pictures(args.calibrate, args.calibration_images or 100, prepare, cut_out)
    tested = args.test_images != 0
    tests = {path.resolve() for path in data_paths(cfg, 'test_dataloader')} if tested else set()
    both = tests.intersection(path.resolve() for path in pictures.paths)
    if both:
        raise UserError(
            f'--calibrate {args.calibrate}: {len(both)} of its pictures are of the test set, such '
            f'as {min(both)}: give others, or the figures would be too good'
        )

    def measure(run: Inference, title: str) -> tuple[str, float]:
        look = in_runtime(model, part, cut_out, prepare, run)
        return points(cfg, look, title, args.test_images)

    return Int8(
        format=FORMATS[args.format],
        recipe=Recipe(args.ranges or METHODS[0], not args.per_tensor),
        pictures=pictures,
        keep=args.keep_fp32 or (),
        points=measure if tested else None,
        max_drop=1.0 if args.max_drop is None else args.max_drop,
        show_errors=args.layer_errors,
        # Of a whole detector, boxes of nearly one score may change places.
        outputs=(1,) if part == 'detector' and args.format == 'onnx' else (),
    )


def main(argv: list[str] | None = None) -> None:
    """Export, check and report."""
    args = parse_args(argv)
    cfg = load_model_config(args.config, args.cfg_options)
    args.config = cfg.filename
    part = args.part or list_parts(cfg)[-1]
    shape = check(args, part, 'roi_head' in cfg.model)
    if args.evaluate or (args.int8 and args.test_images != 0 and not is_classifier_config(cfg)):
        raise_on(check_datasets(cfg, ['test_dataloader']))
    FORMATS[args.format].require()
    name = functools.partial(file_path, args, part, shape)
    # Before anything is exported and timed.
    check_arguments(FORMATS[args.format], name(NATIVE), (1, 3, *shape), args.dynamic_batch)
    channels = cfg.model.get('backbone', {}).get('in_channels', 3)
    picture = None if args.image is None else read_picture(args.image, shape, channels)
    checkpoint = None if args.checkpoint == 'none' else args.checkpoint
    model = load_model(cfg, checkpoint, part, shape)
    size = (1, input_channels(model), *shape)
    raw = args.format != 'onnx'
    facts = picture_facts(cfg, model) if part == 'detector' else {}

    def write(form: ShuffleForm, path: Path) -> tuple[Part, ExportReport]:
        def rewrite(module: nn.Module) -> nn.Module:
            return fold_batchnorm(form.rewrite(module)) if args.int8 else form.rewrite(module)

        cut_out = cut(model, part, shape, rewrite, args.normalise, picture, raw)
        if args.int8:
            cut_out.options['convert'] = make_int8(args, cfg, model, part, cut_out)
        batch = args.dynamic_batch
        return cut_out, export(cut_out.module, path, args.format, size, batch, **cut_out.options)

    if args.shuffle == FASTEST and has_shuffle(model):
        form, cut_out, done = export_fastest(write, FORMATS[args.format], name)
    else:
        form = NATIVE if args.shuffle == FASTEST else choose_form(model, args)
        form, cut_out, done = export_form(write, form, name, args.shuffle != AUTO)
    if not done.conclusive:
        print(
            'warning: another image hardly changes the outputs, so a wrong file might have passed: '
            'give a trained checkpoint, or another --image',
            file=sys.stderr,
        )
    precision = ', int8' if args.int8 else ''
    title = f'{Path(args.config).stem}: {part}, {args.format}{precision}, shuffle {form}'
    print(report(title, cut_out, done))
    if facts:
        beside = done.paths[0].with_suffix('.json')
        write_json(dict(file=done.paths[0].name, **cut_out.facts, **facts), beside)
        print(f'written  {beside}: for {board.__file__}')
    content = dict(config=args.config, checkpoint=args.checkpoint, part=part)
    content |= dict(shuffle=form.name, align=form.align, **done.as_dict())
    if args.int8:
        int8 = cut_out.options['convert']
        print(f'int8     {len(int8.layers)} layers')
        if int8.accuracy:
            print(f'accuracy {int8.accuracy_line()}')
        if int8.errors:
            print(int8.errors_line())
        content['int8'] = int8.as_dict()
    if args.evaluate:
        # The exported detector, as a board runs it, and PyTorch's.
        detectors = {done.paths[0].name: str(done.paths[0]), 'PyTorch': model}
        content['figures'] = {}
        for name, source in detectors.items():
            figures = evaluate(cfg, Detector(cfg, source), name)
            content['figures'][name] = figures
            print(f'{name:12} ' + ', '.join(f'{k} {v:.4f}' for k, v in figures.items()))
    if args.json:
        write_json(content, args.json)


if __name__ == '__main__':
    cli.run(main)
