#!/usr/bin/env python3
"""Time the input pipeline of ImageNet training: images a second of one core.

Compares ways to load a random resized crop. Every way loads the same parts of the same images; they
take turns at each image, so that a drift of the machine hits all of them. Times are of the
processor, of one thread; files are in the system's cache. The first way normalises image by image,
as floats; the others normalise the whole batch, which in training the GPU does.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXAMPLE = """example:
  python tools/benchmark_pipeline.py data/coco/val2017 --images 100 --rounds 9 --json pipeline.json
"""
# RGB, as in configs/_base_/datasets/imagenet.py.
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
SUFFIXES = ('.jpg', '.jpeg', '.png')
BATCH = 128
STAGES = ('load', 'pack', 'collate', 'normalise')


@dataclass
class Pipeline:
    """A way from a file to a network's input.

    Attributes:
        name: In the table.
        load: Returns a random part of the image of a path, uint8 (size, size, 3) in BGR order.
        paths: The images.
        on_floats: Normalise every image by itself, before it becomes part of a batch.
    """

    name: str
    load: Callable
    paths: list[str]
    on_floats: bool = False


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', help='images, also in folders below it')
    parser.add_argument('--images', type=int, default=100, help='how many (default %(default)s)')
    parser.add_argument('--size', type=int, default=224, help='of a crop (default %(default)s)')
    parser.add_argument('--rounds', type=int, default=5, help='default %(default)s')
    parser.add_argument('--json', help='write the figures to this file')
    args = parser.parse_args(argv)
    for name in ('images', 'size', 'rounds'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} {getattr(args, name)}: give a number of at least 1')
    return args


def find_images(folder: str, count: int) -> list[str]:
    """Choose images evenly from all in a folder."""
    from mmshuffle.errors import UserError

    if not Path(folder).is_dir():
        raise UserError(f'{folder} is no folder: give one with images')
    paths = sorted(p for p in Path(folder).rglob('*') if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise UserError(f'{folder} holds no image ({", ".join(SUFFIXES)})')
    count = min(count, len(paths))
    return [str(paths[i * len(paths) // count]) for i in range(count)]


@contextlib.contextmanager
def marked_copies(paths: list[str]) -> Iterator[list[str] | None]:
    """Copies of JPEGs with restart markers, for a while; None where jpegtran is absent."""
    from tqdm import tqdm

    from mmshuffle.classification.restart import add_markers
    from mmshuffle.errors import UserError

    with tempfile.TemporaryDirectory() as folder:
        copies = []
        try:
            for index, path in enumerate(tqdm(paths, desc='restart markers', file=sys.stderr)):
                data = Path(path).read_bytes()
                copies.append(f'{folder}/{index}{Path(path).suffix}')
                Path(copies[-1]).write_bytes(add_markers(data) or data)
        except UserError as error:
            print(f'without restart markers: {error}', file=sys.stderr)
            yield None
        else:
            before, after = (sum(Path(p).stat().st_size for p in ps) for ps in (paths, copies))
            print(f'size of files with markers: {after / before - 1:+.1%}', file=sys.stderr)
            yield copies


def whole_image(decode: Callable, size: int) -> Callable:
    """The straightforward way: decode everything, cut out, resize."""
    import cv2

    from mmshuffle.classification.random_resized_crop import draw_box
    from mmshuffle.errors import UserError

    def load(path: str):
        image = decode(path)
        if image is None:
            raise UserError(f'image {path} cannot be read: mend or remove it')
        box = draw_box(*image.shape[:2], SCALE, RATIO)
        return cv2.resize(box.of(image), (size, size), interpolation=cv2.INTER_LINEAR)

    return load


def with_turbojpeg(path: str):
    """Decode a whole image with libturbojpeg; OpenCV decodes what it cannot."""
    import cv2

    from mmshuffle.classification.decoding import Box, read_header
    from mmshuffle.classification.turbojpeg import load_turbojpeg

    data = Path(path).read_bytes()
    header = read_header(data)
    if header is not None:
        box = Box(0, 0, header.width, header.height)
        image = load_turbojpeg().decode(data, header, box, 1)
        if image is not None:
            return header.upright(image)
    return cv2.imread(path)


def with_pillow(size: int) -> Callable:
    """Pillow with its draft mode, which decodes at a reduced size, and its antialiased resizing."""
    import numpy as np
    from PIL import Image, ImageOps

    from mmshuffle.classification.decoding import largest_reduction
    from mmshuffle.classification.random_resized_crop import draw_box

    def load(path: str):
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) >= 5
            width, height = image.size[::-1] if turned else image.size
            box = draw_box(height, width, SCALE, RATIO)
            reduction = largest_reduction(box, size)
            image.draft('RGB', (image.size[0] // reduction, image.size[1] // reduction))
            pixels = ImageOps.exif_transpose(image.convert('RGB'))
        x, y = pixels.width / width, pixels.height / height
        part = (box.x * x, box.y * y, (box.x + box.width) * x, (box.y + box.height) * y)
        resized = pixels.resize((size, size), Image.Resampling.BILINEAR, part)
        return np.ascontiguousarray(np.asarray(resized)[..., ::-1])

    return load


def pipelines(paths: list[str], copies: list[str] | None, size: int) -> list[Pipeline]:
    """All ways that this machine has; the straightforward one first."""
    import cv2

    from mmshuffle.classification.random_resized_crop import LoadRandomResizedCrop
    from mmshuffle.classification.turbojpeg import load_turbojpeg
    from mmshuffle.errors import UserError

    def ours(**kwargs) -> Callable:
        transform = LoadRandomResizedCrop(size=size, scale=SCALE, ratio=RATIO, **kwargs)
        return lambda path: transform(dict(img_path=path))['img']

    def part(name: str, **kwargs) -> list[Pipeline]:
        load = ours(**kwargs)
        marked = [Pipeline(f'{name}, restart markers', load, copies)] if copies else []
        return [Pipeline(name, load, paths), *marked]

    found = [Pipeline('cv2, whole image, floats', whole_image(cv2.imread, size), paths, True)]
    found += [Pipeline('cv2, whole image', ours(reduced=False), paths), *part('cv2, part')]
    try:
        version = 3 if load_turbojpeg().crops else 2
    except UserError as error:
        print(error, file=sys.stderr)
    else:
        name = f'libturbojpeg {version}'
        found.append(Pipeline(f'{name}, whole image', whole_image(with_turbojpeg, size), paths))
        found += part(f'{name}, part', backend='turbojpeg')
    with contextlib.suppress(ImportError):
        found.append(Pipeline('Pillow, draft mode', with_pillow(size), paths))
    return found


def load(pipeline: Pipeline, index: int, seed: int) -> tuple[list[float], Any, Any]:
    """Load an image.

    Returns:
        Seconds to load and to pack; the tensor, (3, size, size); the part it was made of.
    """
    import mmcv
    import numpy as np
    import torch

    from mmshuffle.classification import PackClassInputs

    np.random.seed(seed)
    start = time.process_time()
    part = pipeline.load(pipeline.paths[index])
    loaded = time.process_time()
    flipped = mmcv.imflip(part) if np.random.random() < 0.5 else part
    if pipeline.on_floats:
        floats = mmcv.imnormalize(flipped, np.array(MEAN), np.array(STD), to_rgb=True)
        tensor = torch.from_numpy(np.ascontiguousarray(floats.transpose(2, 0, 1)))
    else:
        tensor = PackClassInputs()(dict(img=flipped, gt_label=0))['inputs']
    return [loaded - start, time.process_time() - loaded], tensor, part


def batch_up(tensors: list, normalise: Callable | None) -> list[float]:
    """Make a batch; return the seconds to collate and to normalise it."""
    import torch

    start = time.process_time()
    inputs = torch.stack(tensors)
    collated = time.process_time()
    if normalise is None:
        return [collated - start, 0.0]
    normalise(dict(inputs=inputs))
    return [collated - start, time.process_time() - collated]


def run_round(found: list[Pipeline], number: int, normalise: Callable, bar: Any) -> dict:
    """Load all images with every pipeline, taking turns at each image.

    Returns:
        By pipeline, seconds an image for each stage and the mean absolute difference of the parts
        to those of the first pipeline.
    """
    import numpy as np

    count = len(found[0].paths)
    seconds = {p.name: np.zeros(len(STAGES)) for p in found}
    differences = dict.fromkeys(seconds, 0.0)
    for start in range(0, count, BATCH):
        batches = {name: [] for name in seconds}
        for index in range(start, min(start + BATCH, count)):
            expected = None
            for pipeline in found:
                times, tensor, part = load(pipeline, index, number * count + index)
                seconds[pipeline.name][:2] += times
                batches[pipeline.name].append(tensor)
                expected = part.astype(np.int16) if expected is None else expected
                differences[pipeline.name] += float(np.abs(expected - part).mean()) / count
            bar.update()
        for pipeline in found:
            step = None if pipeline.on_floats else normalise
            seconds[pipeline.name][2:] += batch_up(batches.pop(pipeline.name), step)
    return {
        name: dict(zip(STAGES, (total / count).tolist())) | dict(difference=differences[name])
        for name, total in seconds.items()
    }


def measure(found: list[Pipeline], rounds: int) -> dict[str, dict]:
    """Run ``rounds`` rounds after a warm-up."""
    from tqdm import tqdm

    from mmshuffle.classification.preprocessor import BatchNormalizer

    normalise = BatchNormalizer(mean=MEAN, std=STD, bgr_to_rgb=True)
    total = (rounds + 1) * len(found[0].paths)
    with tqdm(total=total, desc='images', file=sys.stderr) as bar:
        results = [run_round(found, number, normalise, bar) for number in range(rounds + 1)][1:]
    reference = [result[found[0].name] for result in results]
    return {p.name: figures([result[p.name] for result in results], reference) for p in found}


def figures(own: list[dict[str, float]], reference: list[dict[str, float]]) -> dict[str, float]:
    """Summarise a pipeline's rounds: medians, and ratios to the reference round by round."""

    def totals(rounds: list[dict[str, float]], stages: tuple[str, ...]) -> list[float]:
        return [sum(seconds[stage] for stage in stages) for seconds in rounds]

    result = {f'{s}_ms': 1e3 * statistics.median(r[s] for r in own) for s in STAGES}
    for key, stages in (('loading', STAGES[:-1]), ('total', STAGES)):
        seconds = totals(own, stages)
        result[f'{key}_images_per_s'] = 1 / statistics.median(seconds)
        ratios = [a / b for a, b in zip(totals(reference, STAGES), seconds)]
        result[f'{key}_ratio'] = statistics.median(ratios)
    return result | dict(mean_difference=statistics.mean(r['difference'] for r in own))


def table(result: dict[str, dict]) -> str:
    """Format figures as Markdown."""
    lines = [
        '| pipeline | load ms | flip, pack | collate | loading images/s | ratio | normalise ms '
        '| total images/s | ratio | mean difference |',
        '|---|---|---|---|---|---|---|---|---|---|',
    ]
    for name, f in result.items():
        lines.append(
            f'| {name} | {f["load_ms"]:.2f} | {f["pack_ms"]:.2f} | {f["collate_ms"]:.2f} '
            f'| {f["loading_images_per_s"]:.0f} | {f["loading_ratio"]:.2f} '
            f'| {f["normalise_ms"]:.2f} | {f["total_images_per_s"]:.0f} '
            f'| {f["total_ratio"]:.2f} | {f["mean_difference"]:.2f} |'
        )
    return '\n'.join(lines)


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = parse_args(argv)
    paths = find_images(args.folder, args.images)
    import cv2
    import torch

    from mmshuffle.engine.files import write_json

    busy = os.getloadavg()[0]
    if busy > 0.5:
        print(
            f'warning: the load is {busy:.1f}; figures of a busy machine mislead', file=sys.stderr
        )
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with marked_copies(paths) as copies:
        result = measure(pipelines(paths, copies, args.size), args.rounds)
    print(table(result))
    if args.json:
        summary = dict(
            folder=args.folder,
            images=len(paths),
            size=args.size,
            rounds=args.rounds,
            opencv=cv2.__version__,
            load=busy,
            pipelines=result,
        )
        write_json(summary, args.json)


if __name__ == '__main__':
    from mmshuffle.engine import cli

    cli.run(main)
