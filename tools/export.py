#!/usr/bin/env python3
"""Write a trained network as ONNX, ncnn or TorchScript, and check it against PyTorch.

A file is kept only if its runtime computes what PyTorch computes.
"""

import argparse
import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn
from tqdm import tqdm

import mmshuffle  # noqa: F401  (registers everything)
from mmshuffle.checks import check_datasets, is_classifier_config, raise_on
from mmshuffle.deploy import FORMATS, ExportReport, accuracy, board, export
from mmshuffle.deploy.accuracy import Int8, Pictures, Preparing, data_paths, in_runtime, points
from mmshuffle.deploy.detector import Detector, picture_facts
from mmshuffle.deploy.export import check_arguments, folder_beside, replace_all
from mmshuffle.deploy.fold import fold_batchnorm
from mmshuffle.deploy.formats import Format, Inference, Unsupported
from mmshuffle.deploy.forms import DEVICES, FORMS, NATIVE, ShuffleForm
from mmshuffle.deploy.part import Part, cut
from mmshuffle.deploy.quantise import METHODS, Recipe
from mmshuffle.deploy.shuffle_free import has_shuffle, in_form
from mmshuffle.engine import cli, network
from mmshuffle.engine.files import write_json
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
TRIAL = dict(loops=15, seconds=1.5, block_loops=3, block_seconds=0)
TRIAL |= dict(warmup_loops=1, warmup_seconds=0)
# Those that say nothing without --int8.
INT8_OPTIONS = (
    *('calibrate', 'calibration_images', 'ranges', 'keep_fp32', 'per_tensor', 'max_drop'),
    *('test_images', 'layer_errors'),
)
Exported = tuple[ShuffleForm, Part, ExportReport]
Write = Callable[[ShuffleForm, Path], tuple[Part, ExportReport]]
Name = Callable[[ShuffleForm], Path]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.make_config_parser(__doc__, EXAMPLE)
    parser.add_argument('checkpoint', help="weights, or 'none' for random ones")
    add, flag = parser.add_argument, dict(action='store_true')
    add('--format', choices=list(FORMATS), default='onnx', help='default %(default)s')
    text = 'form of the channel shuffles, all of the same function: native, as PyTorch computes '
    text += 'them; free, absorbed in the weights; free-N, with channels filled with zeros up to a '
    text += 'multiple of N, for runtimes that work on blocks of N; fastest, whatever that is in '
    text += 'the runtime on this machine; auto (default), by the rule for --device and --precision'
    add('--shuffle', default=AUTO, metavar='FORM', help=text)
    text = 'with --shuffle auto: the processor that will run the file (default arm)'
    add('--device', choices=DEVICES, help=text)
    text = 'with --shuffle auto: what the runtime will compute in, which ncnn chooses when it '
    text += 'loads the file (default fp16 for ncnn on ARM, as phones do, else fp32)'
    add('--precision', choices=('fp16', 'fp32'), help=text)
    text = 'what to write (default: the whole classifier or detector; two stages in ONNX only)'
    add('--part', choices=network.PARTS, help=text)
    text = 'of a detector as its test pipeline makes it; 224 224 for a classifier, to be given for '
    cli.add_shape(parser, f'{text}a detector', least=32)
    add('--dynamic-batch', help='let the batch be of any size', **flag)
    text = 'take images in 0 to 255 and normalise them in the graph; the default for a classifier '
    text += 'and a detector, but not for a backbone and a neck'
    add('--normalise', action=argparse.BooleanOptionalAction, help=text)
    add('--image', help='picture to check on (default: a drawn one)')
    text = "evaluate a whole detector on the config's test set, as a board runs it and with PyTorch"
    add('--evaluate', help=text, **flag)
    add('--out', help='file to write (default: a name in work_dirs/CONFIG/)')
    add('--json', metavar='OUT', help='write what is printed to this file')
    text = 'weights and activations in 8 bits, if the accuracy on the test set of the config stays'
    add = parser.add_argument_group('int8', text).add_argument
    add('--int8', help='write int8 (all but TorchScript)', **flag)
    text = 'pictures that show the ranges of the activations, other than the test ones: a folder, '
    add('--calibrate', metavar='FOLDER|CONFIG', help=f'{text}or a config for its training set')
    text = 'how many of them, evenly spread (default 100)'
    add('--calibration-images', type=cli.at_least(1), metavar='N', help=text)
    text = 'of activations: all values that were seen (minmax, the default), or without rare large '
    add('--ranges', choices=METHODS, help=f'{text}ones, by relative entropy')
    text = "layers that stay in fp32: first, last, names, or patterns such as 'backbone.stages.0.*'"
    add('--keep-fp32', nargs='+', metavar='LAYER', help=text)
    text = 'one scale a weight instead of one a channel; costs most networks their accuracy'
    add('--per-tensor', help=text, **flag)
    text = 'of top-1 or AP; a file that loses more is not kept (default 1; inf keeps any)'
    add('--max-drop', type=cli.at_least(0, float), metavar='POINTS', help=text)
    text = 'how many of the test set, evenly spread (default all; 0 keeps a file unseen)'
    add('--test-images', type=cli.at_least(0), metavar='N', help=text)
    add('--layer-errors', help='name the worst layers also where the file is kept', **flag)
    return parser.parse_args(argv)


def check(args: argparse.Namespace, part: str, two_stages: bool) -> None:
    """Refuse options that do not go together."""
    if args.shuffle not in (AUTO, FASTEST):
        ShuffleForm.parse(args.shuffle)
    if args.shuffle != AUTO and (args.device or args.precision):
        raise UserError('--device and --precision choose the form: leave --shuffle out with them')
    if args.precision and args.precision not in FORMATS[args.format].precisions:
        raise UserError(f'--precision {args.precision}: {args.format} files compute in fp32 here')
    if part == 'detector':
        if args.format != 'onnx' and two_stages:
            raise UserError(
                f'{args.format} has no NMS or RoIAlign: add --part neck or --format onnx'
            )
        if FORMATS[args.format].suffixes[0] not in board.RUNTIMES:
            raise UserError(f'{args.format} runs on no board: add --part neck, or --format onnx')
        if args.dynamic_batch:
            raise UserError('a whole detector takes one image: leave --dynamic-batch out')
    elif args.evaluate:
        raise UserError('--evaluate is for a whole detector: leave it or --part out')
    if args.shape is None and part != 'classifier':
        raise UserError('give --shape H W, the size of the image that the network gets')
    if args.int8:
        if args.calibrate is None:
            raise UserError('--int8: add --calibrate, a folder of pictures or a config')
        if args.shuffle == FASTEST:
            raise UserError('--shuffle fastest: with --int8, name a form, or leave it out')
        if args.dynamic_batch:
            raise UserError('--int8: leave --dynamic-batch out')
    for name in () if args.int8 else INT8_OPTIONS:
        if vars(args)[name] is not None and vars(args)[name] is not False:
            raise UserError(f'--{name.replace("_", "-")}: add --int8, or leave it out')


def read_picture(path: str, size: Sequence[int]) -> Tensor:
    """Read an image file as ``size``, (1, channels, H, W), BGR in 0 to 255, resized."""
    _, channels, *shape = size
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
    if args.shuffle not in (AUTO, FASTEST):
        return ShuffleForm.parse(args.shuffle)
    if not has_shuffle(model):
        return NATIVE
    device, precisions = args.device or DEVICES[0], FORMATS[args.format].precisions
    precision = args.precision or (precisions[0] if device == 'arm' else 'fp32')
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
        times: list[list[float]] = [[] for _ in runs]
        loop.measure(list(runs.values()), TRIAL, lambda n, block, *_: times[n].extend(block))
        medians = dict(zip(runs, map(np.median, times), strict=True))
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


def file_path(args: argparse.Namespace, part: str, form: ShuffleForm) -> Path:
    """The file that is asked for, or one whose name tells what is in it."""
    if args.out:
        return Path(args.out)
    name = f'{part}_{form}_{args.shape[0]}x{args.shape[1]}' + '_int8' * args.int8
    return Path('work_dirs', Path(args.config).stem, name + FORMATS[args.format].suffixes[0])


def report(cut_out: Part, done: ExportReport) -> str:
    """Format what was written."""
    taken = 'x'.join(map(str, ('N' if done.dynamic_batch else 1, *done.input_shape[1:])))
    outputs = ', '.join(
        f'{name} {"x".join(map(str, shape))}'
        for name, shape in zip(done.output_names, done.output_shapes, strict=True)
    )
    kinds = ', '.join(f'{kind} {count}' for kind, count in done.nodes.items())
    differs = 'in fp32 it differed' if 'convert' in cut_out.options else 'differs'
    lines = (
        f'input    {taken} float32: {cut_out.input}',
        f'outputs  {outputs}',
        f'nodes    {sum(done.nodes.values())}: {kinds}',
        f'size     {done.size / 1e6:.2f} MB',
        f'{differs} from PyTorch by {done.difference:.1e} {cut_out.measure}',
        *(f'written  {path}' for path in done.paths),
    )
    return '\n'.join(lines)


def make_int8(
    args: argparse.Namespace, cfg: Config, model: nn.Module, part: str, cut_out: Part
) -> Int8:
    """What ``--int8`` asks for; its pictures must not be those of the test set."""
    facts = None if is_classifier_config(cfg) else picture_facts(cfg, model)
    prepare, tested = Preparing(cfg, args.shape, facts), args.test_images != 0
    pictures = Pictures(args.calibrate, args.calibration_images or 100, prepare, cut_out)
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
    cfg = network.load_model_config(args.config, args.cfg_options)
    args.config = cfg.filename
    part = args.part or network.list_parts(cfg)[-1]
    check(args, part, 'roi_head' in cfg.model)
    args.shape = shape = tuple(args.shape or (224, 224))
    if args.evaluate or (args.int8 and args.test_images != 0 and not is_classifier_config(cfg)):
        raise_on(check_datasets(cfg, ['test_dataloader']))
    FORMATS[args.format].require()
    name = functools.partial(file_path, args, part)
    # Before anything is exported and timed.
    check_arguments(FORMATS[args.format], name(NATIVE), (1, 3, *shape), args.dynamic_batch)
    checkpoint = None if args.checkpoint == 'none' else args.checkpoint
    model = network.load_model(cfg, checkpoint, part, shape)
    size = (1, network.input_channels(model), *shape)
    picture = read_picture(args.image, size) if args.image else None
    facts = picture_facts(cfg, model) if part == 'detector' else {}

    def write(form: ShuffleForm, path: Path) -> tuple[Part, ExportReport]:
        def rewrite(module: nn.Module) -> nn.Module:
            module = in_form(module, form)
            return fold_batchnorm(module) if args.int8 else module

        cut_out = cut(model, part, shape, rewrite, args.normalise, picture, args.format != 'onnx')
        if args.int8:
            cut_out.options['convert'] = make_int8(args, cfg, model, part, cut_out)
        wanted = args.format, size, args.dynamic_batch
        return cut_out, export(cut_out.module, path, *wanted, **cut_out.options)

    if args.shuffle == FASTEST and has_shuffle(model):
        form, cut_out, done = export_fastest(write, FORMATS[args.format], name)
    else:
        strict = args.shuffle != AUTO
        form, cut_out, done = export_form(write, choose_form(model, args), name, strict)
    if not done.conclusive:
        text = 'warning: another image hardly changes the outputs, so a wrong file might have '
        text += 'passed: give a trained checkpoint, or another --image'
        print(text, file=sys.stderr)
    title = f'{Path(args.config).stem}: {part}, {args.format}' + ', int8' * args.int8
    print(f'{title}, shuffle {form}', report(cut_out, done), sep='\n')
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
        found = {n: accuracy.evaluate(cfg, Detector(cfg, d), n) for n, d in detectors.items()}
        content['figures'] = found
        for name, figures in found.items():
            print(f'{name:12} ' + ', '.join(f'{k} {v:.4f}' for k, v in figures.items()))
    if args.json:
        write_json(content, args.json)


if __name__ == '__main__':
    cli.run(main)
