#!/usr/bin/env python3
"""Detect on a device that has Python 3.8 or later, numpy and a runtime, and nothing else.

Copy this file there, with the files that tools/export.py --part detector has written.

example:
  python3 board.py detector.json picture.bmp
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Detections = 'tuple[np.ndarray, np.ndarray, np.ndarray]'
Run = 'Callable[[np.ndarray], list[np.ndarray]]'
# The widest and highest box that deltas make of a prior, as MMDetection's delta2bbox limits it.
MAX_RATIO = abs(np.log(16 / 1000))


class Wrong(Exception):
    """The input is wrong; the message says how to put it right."""


class Detector:
    """An exported detector.

    Args:
        path: The .json file, beside which the network lies.
        threads: Threads of the runtime.
        half: Let ncnn compute in half precision where the processor can.

    Attributes:
        facts: What the .json file says.
    """

    def __init__(self, path: str | Path, threads: int = 1, half: bool = False) -> None:
        try:
            self.facts = json.loads(Path(path).read_text(encoding='utf-8'))
            name = Path(path).with_name(self.facts['file'])
        except (OSError, ValueError, KeyError, TypeError):
            raise Wrong(f'{path} is no .json file of an exported detector') from None
        if not name.is_file():
            raise Wrong(f'{name} is missing: copy it too')
        self._run = load(name, threads, half)

    def __call__(self, picture: np.ndarray) -> Detections:
        """Detect.

        Args:
            picture: (H, W, 3) uint8, in the order blue, green, red.

        Returns:
            Boxes, (K, 4), as (x1, y1, x2, y2) in pixels of the picture; scores, (K,), falling; and
            labels, (K,), which count from 0 through ``facts['classes']``.
        """
        image, size = prepare(picture, self.facts)
        return finish(self._run(image), self.facts, size, picture.shape)


def load(path: Path, threads: int, half: bool = False) -> Run:
    """Make a runtime ready for a file, which its suffix names.

    Raises:
        Wrong: It is missing or does not take the file.
    """
    if path.suffix not in RUNTIMES:
        raise Wrong(f'{path}: give a file that ends in {" or ".join(RUNTIMES)}')
    try:
        return RUNTIMES[path.suffix](path, threads, half)
    except ImportError as error:
        raise Wrong(f'{error}: pip install {error.name}') from None
    except Exception as error:  # those of the runtimes have no common base
        message = ' '.join(str(error).split())
        raise Wrong(f'{path} cannot be loaded: {message}: export and copy it anew') from None


def load_onnx(
    model: Path | bytes, threads: int, half: bool = False, names: Sequence[str] | None = None
) -> Run:
    """Start a session of ONNX Runtime, for all outputs or ``names``; it chooses 0 ``threads``."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    content = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(content, options, providers=['CPUExecutionProvider'])
    name = session.get_inputs()[0].name
    return lambda image: session.run(names, {name: image})


def load_ncnn(
    path: Path, threads: int, half: bool = False, names: Sequence[str] | None = None
) -> Run:
    """Read a network of ncnn, for all outputs or the blobs ``names``; it chooses 0 ``threads``."""
    import ncnn

    net = ncnn.Net()
    if threads:
        net.opt.num_threads = threads
    net.opt.use_vulkan_compute = net.opt.use_bf16_storage = False
    net.opt.lightmode = names is None  # which frees the blobs on the way
    for option in ('use_fp16_packed', 'use_fp16_storage', 'use_fp16_arithmetic'):
        setattr(net.opt, option, half)
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix('.bin'))):
        raise ValueError('it or the .bin file beside it is missing or damaged')
    if names is None:
        # ncnn lists every blob that nothing reads, pieces of slices too, in the order of the file.
        names = [name for name in net.output_names() if name.startswith('out')]
        names.sort(key=lambda name: int(name[3:]))
    first = net.input_names()[0]

    def run(image: np.ndarray) -> list[np.ndarray]:
        array = np.ascontiguousarray(image[0])  # has to outlive the Mat of its memory
        with net.create_extractor() as extractor:
            # Copies: a first layer may work in place, and the outputs' memory is the extractor's.
            extractor.input(first, ncnn.Mat(array).clone())
            return [np.array(extractor.extract(name)[1])[None] for name in names]

    return run


def load_litert(path: Path, threads: int, half: bool = False) -> Run:
    """Make an interpreter of LiteRT, which leaves to XNNPACK what that takes."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads or None)
    interpreter.allocate_tensors()
    (first,) = interpreter.get_input_details()
    # LiteRT has an order of its own; the names have the network's.
    outputs = interpreter.get_output_details()
    outputs.sort(key=lambda output: int(re.findall(r'output_(\d+)', output['name'])[-1]))

    def run(image: np.ndarray) -> list[np.ndarray]:
        interpreter.set_tensor(first['index'], image)
        interpreter.invoke()
        return [interpreter.get_tensor(output['index']) for output in outputs]

    return run


def load_executorch(path: Path, threads: int, half: bool = False) -> Run:
    """Load a program of ExecuTorch; its threads are those of the whole process."""
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime
    from torch import from_numpy

    if threads:
        portable_lib._unsafe_reset_threadpool(threads)
    program = Runtime.get().load_program(path.read_bytes())
    program.load_method('forward')

    def run(image: np.ndarray) -> list[np.ndarray]:
        # A method alone does not keep the program's memory, nor an output its method's.
        method = program.load_method('forward')
        inputs = [from_numpy(np.ascontiguousarray(image))]
        return [output.numpy().copy() for output in method.execute(inputs)]

    return run


RUNTIMES = {
    '.onnx': load_onnx,
    '.param': load_ncnn,
    '.tflite': load_litert,
    '.pte': load_executorch,
}


def prepare(picture: np.ndarray, facts: dict[str, Any]) -> tuple[np.ndarray, tuple[int, int]]:
    """Make the network's input of a picture.

    Args:
        picture: (H, W, C) uint8.
        facts: ``shape``, height and width that the network takes; ``keep_ratio``, whether the
            sides of the picture keep theirs, so that some of the image at its right or lower end
            is filled with ``fill``.

    Returns:
        (1, C, height, width) float32, and height and width of the picture in it.
    """
    height, width = size = tuple(facts['shape'])
    if facts['keep_ratio']:
        scale = min(height / picture.shape[0], width / picture.shape[1])
        size = tuple(max(1, int(side * scale + 0.5)) for side in picture.shape[:2])
    image = np.empty((height, width, picture.shape[2]), np.float32)
    image[:] = facts['fill']
    image[: size[0], : size[1]] = resize(picture, size)
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None]), size


def resize(picture: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize (H, W, C) uint8 with bilinear interpolation, rounded as OpenCV rounds."""
    (left, right, a, b), (top, bottom, c, d) = (
        _weights(*sides) for sides in ((picture.shape[1], size[1]), (picture.shape[0], size[0]))
    )
    pixels = picture.astype(np.int32)
    rows = (pixels[:, left] * a[:, None] + pixels[:, right] * b[:, None]) >> 4
    above, below = rows[top] * c[:, None, None] >> 16, rows[bottom] * d[:, None, None] >> 16
    return ((above + below + 2) >> 2).astype(np.uint8)


def _weights(old: int, new: int) -> tuple[np.ndarray, ...]:
    """The two pixels that make each new one, and their weights in parts of 2048."""
    place = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32).clip(0, old - 1)
    first = place.astype(int)
    part = place - first
    weights = [np.rint(share * np.float32(2048)).astype(np.int32) for share in (1 - part, part)]
    return (first, np.minimum(first + 1, old - 1), *weights)


def finish(
    outputs: Sequence[np.ndarray],
    facts: dict[str, Any],
    size: Sequence[int],
    picture: Sequence[int],
) -> Detections:
    """Make detections of what a network puts out.

    Args:
        outputs: Boxes, scores and labels of a whole detector, or what its ``head`` puts out.
        facts: Of the .json file.
        size: Height and width of the picture within the image.
        picture: Height and width of the picture itself.
    """
    if facts['head'] is not None:
        outputs = decode(outputs, facts['head'], size)
    real = outputs[1] > 0
    boxes, scores, labels = (np.asarray(part)[real] for part in outputs)
    limits = np.array([size[1], size[0]] * 2, np.float32)
    boxes = np.minimum(boxes, limits) * (np.array([picture[1], picture[0]] * 2) / limits)
    return boxes.astype(np.float32), scores, labels


def decode(outputs: Sequence[np.ndarray], head: dict[str, Any], size: Sequence[int]) -> Detections:
    """Turn what a head puts out into detections, as MMDetection's dense heads do.

    Args:
        outputs: Of each level the class scores, (1, A C, H, W), then of each the boxes, then,
            where the head has them, the factors.
        head: Its levels and settings.
        size: Height and width that boxes are cut off at.
    """
    count = len(head['levels'])
    flat = [output[0].transpose(1, 2, 0) for output in outputs]
    found = []
    for index, level in enumerate(head['levels']):
        logits = flat[index].reshape(-1, head['classes'])
        scores = sigmoid(logits) if head['scores'] == 'sigmoid' else softmax(logits)[:, :-1]
        place, label = np.nonzero(scores > head['score_thr'])
        score = scores[place, label]
        best = np.argsort(-score, kind='stable')
        best = best[: head['nms_pre']] if head['nms_pre'] > 0 else best
        place, label, score = place[best], label[best], score[best]
        if len(flat) == 3 * count:
            score = score * sigmoid(flat[2 * count + index].reshape(-1)[place])
        priors = np.array(level['priors'], np.float32)
        cell, anchor = np.divmod(place, len(priors))
        shift = np.stack((cell % level['size'][1], cell // level['size'][1]), 1) * level['stride']
        prior = priors[anchor] + np.tile(shift, 2).astype(np.float32)
        raw = flat[count + index]
        raw = raw.reshape(-1, raw.shape[2] // len(priors))[place]
        found.append((to_boxes(raw, prior, head['box'], level['stride'][0]), score, label))
    boxes, scores, labels = (np.concatenate(part) for part in zip(*found))
    if head['box']['clip']:
        boxes = np.clip(boxes, 0, np.array([size[1], size[0]] * 2, np.float32))
    if head['min_size'] >= 0:
        large = (boxes[:, 2:] - boxes[:, :2] > head['min_size']).all(1)
        boxes, scores, labels = boxes[large], scores[large], labels[large]
    kept = suppress(boxes, scores, labels, head['iou'], head['max_per_img'])
    return boxes[kept], scores[kept], labels[kept]


def to_boxes(raw: np.ndarray, prior: np.ndarray, kind: dict[str, Any], stride: int) -> np.ndarray:
    """Turn a head's numbers, (N, 4 or more), and their priors, (N, 4), into boxes, (N, 4)."""
    centre, sides = (prior[:, :2] + prior[:, 2:]) / 2, prior[:, 2:] - prior[:, :2]
    if kind['type'] == 'delta':
        raw = raw * np.array(kind['stds'], np.float32) + np.array(kind['means'], np.float32)
        moved, grown, clamp = raw[:, :2] * sides, raw[:, 2:], kind['centre_clamp']
        if clamp is not None:
            moved = np.clip(moved, -clamp, clamp)
        least = -MAX_RATIO if clamp is None else -np.inf
        half = np.exp(np.clip(grown, least, MAX_RATIO)).astype(np.float32) * sides / 2
        return np.concatenate((centre + moved - half, centre + moved + half), 1)
    if kind['bins']:  # a distribution over whole numbers of strides: its mean
        shares = softmax(raw.reshape(-1, kind['bins']))
        raw = (shares @ np.arange(kind['bins'], dtype=np.float32)).reshape(-1, 4) * stride
    return np.concatenate((centre - raw[:, :2], centre + raw[:, 2:]), 1)


def suppress(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, iou: float, most: int
) -> np.ndarray:
    """Non-maximum suppression of each class; returns the places of the best, (K,)."""
    apart = boxes + (labels * (boxes.max(initial=0) + 1))[:, None].astype(np.float32)
    area = (apart[:, 2:] - apart[:, :2]).prod(1)
    order, kept = np.argsort(-scores, kind='stable'), []
    while len(order) and (most <= 0 or len(kept) < most):
        best, order = order[0], order[1:]
        kept.append(best)
        corner = np.maximum(apart[best, :2], apart[order, :2])
        common = (np.minimum(apart[best, 2:], apart[order, 2:]) - corner).clip(0).prod(1)
        order = order[~(common > iou * (area[best] + area[order] - common))]
    return np.array(kept, int)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """The logistic function, which never overflows."""
    return (np.tanh(x / 2) + 1) / 2


def softmax(x: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    y = np.exp(x - x.max(-1, keepdims=True))
    return y / y.sum(-1, keepdims=True)


def read_bmp(path: str | Path) -> np.ndarray:
    """Read an uncompressed picture of 24 or 32 bits a pixel as (H, W, 3) uint8, blue first.

    Raises:
        Wrong: It is none.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise Wrong(f'{path}: {error.strerror}') from None
    start, _, width, height, _, bits, packing = struct.unpack('<4i2hi', data[10:34].ljust(24))
    stride = (width * bits // 8 + 3) // 4 * 4
    if (
        data[:2] != b'BM'
        or bits not in (24, 32)
        or packing not in (0, 3)
        or min(width, abs(height)) < 1
        or start + stride * abs(height) > len(data)
    ):
        raise Wrong(f'{path} is no uncompressed BMP file of 24 bits: convert it to one')
    rows = np.frombuffer(data, np.uint8, stride * abs(height), start).reshape(-1, stride)
    pixels = rows[:, : width * bits // 8].reshape(len(rows), width, -1)[:, :, :3]
    return pixels[::-1] if height > 0 else pixels


def main() -> None:
    """Print the detections on pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('detector', help='.json file of an export')
    parser.add_argument('pictures', nargs='+', help='uncompressed .bmp files')
    parser.add_argument('--threads', type=int, default=1, help='default %(default)s')
    parser.add_argument('--half', action='store_true', help='ncnn: compute in half precision')
    parser.add_argument('--score-thr', type=float, default=0.3, help='default %(default)s')
    parser.add_argument('--json', metavar='FILE', help='write them, whatever their score')
    args = parser.parse_args()
    try:
        detector = Detector(args.detector, args.threads, args.half)
        written = {}
        for path in args.pictures:
            boxes, scores, labels = (part.tolist() for part in detector(read_bmp(path)))
            written[path] = dict(boxes=boxes, scores=scores, labels=labels)
            for box, score, label in zip(boxes, scores, labels):
                if score >= args.score_thr:
                    name = (detector.facts['classes'] or {label: label})[label]
                    print(path, name, f'{score:.3f}', *(f'{side:.1f}' for side in box))
        if args.json:
            Path(args.json).write_text(json.dumps(written), encoding='utf-8')
    except (Wrong, OSError, ImportError) as error:
        print(f'board.py: {error}', file=sys.stderr)
        sys.exit(2)


if __name__ == '__main__':
    main()
