#!/usr/bin/env python3
"""Time whole detectors that tools/export.py wrote as .onnx, in turns, on a picture.

The file of --json is one that tools/compare.py takes as --latency: files are named after their
configs.
"""

from pathlib import Path

import cv2
import numpy as np

from mmshuffle.deploy.detector import graph_shape
from mmshuffle.deploy.export import FORMATS
from mmshuffle.engine import cli
from mmshuffle.engine.config import require_file
from mmshuffle.engine.files import write_json
from mmshuffle.errors import UserError
from mmshuffle.latency.device import loop
from mmshuffle.latency.statistics import summarise
from mmshuffle.reporting import markdown_table

EXAMPLE = """example:
  python tools/benchmarks/exported_detectors.py work_dirs/onnx/*.onnx \\
      --image data/bccd/JPEGImages/BloodImage_00007.jpg --json onnxruntime.json
"""
PROTOCOL = dict(block_loops=5, block_seconds=0.0, warmup_loops=5, warmup_seconds=1.0)


def main(argv: list[str] | None = None) -> None:
    """Let the detectors take turns, then print the table."""
    parser = cli.make_parser(__doc__, EXAMPLE)
    parser.add_argument('files', nargs='+', type=Path, help='whole detectors')
    text = 'picture, resized to what the detectors take'
    parser.add_argument('--image', required=True, help=text)
    parser.add_argument('--threads', type=int, default=1, help='default %(default)s')
    parser.add_argument('--loops', type=int, default=100, help='default %(default)s')
    parser.add_argument('--json', metavar='FILE', help='write the figures')
    args = parser.parse_args(argv)
    picture = cv2.imread(args.image)
    if picture is None:
        raise UserError(f'--image {args.image} does not decode')
    if min(args.threads, args.loops) < 1:
        raise UserError('--threads and --loops: give numbers of at least 1')
    FORMATS['onnx'].require()
    for path in args.files:
        require_file(path, 'detector')
    load = FORMATS['onnx'].load
    runs = [load([path], threads=args.threads) for path in args.files]
    shape, *others = {graph_shape(path) for path in args.files}
    if others:
        raise UserError(f'the detectors take images of {shape} and {others[0]}: give those of one')
    pixels = cv2.resize(picture, shape[::-1]).transpose(2, 0, 1)[None].astype(np.float32)
    times: list[list[float]] = [[] for _ in runs]
    protocol = dict(PROTOCOL, loops=args.loops, seconds=0.0)
    calls = [lambda run=run: run(pixels) for run in runs]
    loop.measure(calls, protocol, lambda number, block, *_: times[number].append(list(block)))
    results = [
        dict(config=path.stem, shape=shape, runtime='onnxruntime', threads=args.threads)
        | summarise([ms])
        for path, ms in zip(args.files, times, strict=True)
    ]
    rows = [
        [r['config'], f'{r["median_ms"]:.2f}', f'{r["p10_ms"]:.2f}', f'{r["p90_ms"]:.2f}']
        for r in results
    ]
    print(markdown_table(['detector', 'median, ms', '10 %', '90 %'], rows))
    if args.json:
        write_json(dict(results=results), args.json)


if __name__ == '__main__':
    cli.run(main)
