#!/usr/bin/env python3
"""Detect on pictures, a folder of them, a video or a camera; draw boxes and write COCO results.

The folder of --out gets the pictures or the video with boxes, ``results.bbox.json`` (detections as
COCO wants them) and ``images.json`` (the images and categories that their ids stand for).
"""

import argparse
import contextlib
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.device import get_device
from mmengine.structures import InstanceData
from tqdm import tqdm

import mmshuffle  # noqa: F401  (registers everything)
from mmshuffle.checks import is_classifier_config, is_local
from mmshuffle.data.annotations import Use, read_annotations
from mmshuffle.data.entries import check_entries
from mmshuffle.deploy.detector import Detector
from mmshuffle.deploy.formats import refusing
from mmshuffle.detection.report import Drawing
from mmshuffle.engine import cli
from mmshuffle.engine.config import require_file, require_loops
from mmshuffle.engine.files import write, write_json
from mmshuffle.engine.network import load_model_config
from mmshuffle.errors import UserError

EXAMPLE = """example:
  python tools/detect.py bccd work_dirs/bccd/epoch_12.pth data/bccd/JPEGImages --out found
  python tools/detect.py bccd work_dirs/bccd/detector.onnx camera:0 --show
"""
SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.webp', '.tif', '.tiff')
Frame = tuple[str, Path | np.ndarray]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.make_config_parser(__doc__, EXAMPLE)
    parser.add_argument('checkpoint', help='checkpoint, or the file of an exported detector')
    parser.add_argument('input', help='picture, folder of pictures, video, or camera:N')
    default = 'work_dirs/detections'
    parser.add_argument('--out', default=default, help='folder (default %(default)s)')
    text = 'lowest score drawn (default %(default)s)'
    share = cli.at_least(0, float, 1)
    parser.add_argument('--score-thr', type=share, default=0.3, metavar='SCORE', help=text)
    text = 'COCO file with the ids of the images and categories, for evaluation'
    parser.add_argument('--ann-file', help=text)
    parser.add_argument('--no-draw', action='store_true', help='write the results only')
    parser.add_argument('--show', action='store_true', help='show each picture; q ends')
    parser.add_argument('--device', default=get_device(), help='default %(default)s')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Detect, draw and write."""
    args = parse_args(argv)
    cfg = load_model_config(args.config, args.cfg_options)
    require_loops(cfg, 'test')
    if is_classifier_config(cfg):
        raise UserError(f'{args.config} is a classifier: give the config of a detector')
    if Path(args.out).is_file():
        raise UserError(f'--out {args.out} is a file: give a folder')
    if is_local(args.checkpoint):
        require_file(args.checkpoint, 'checkpoint')
    with refusing(f'--device {args.device}', UserError):
        torch.empty(0, device=args.device)
    source = open_source(args.input)
    if args.ann_file and isinstance(source, Stream):
        raise UserError(
            f'--ann-file {args.ann_file} has ids of pictures, not of frames: leave it out'
        )
    if not args.no_draw:
        keep_inputs(source, Path(args.out))
    detector = Detector(cfg, args.checkpoint, args.device)
    results = Results(detector.classes, args.ann_file, source)
    drawing = None if args.no_draw and not args.show else Drawing(detector.classes, args.score_thr)
    unread, interrupted = 0, False
    with source, tqdm(source.frames(), args.input, len(source), unit='image') as bar:
        try:
            for name, frame in bar:
                try:
                    found = detector(frame)
                except UserError as error:
                    if len(source) == 1:
                        raise
                    bar.write(f'warning: {error}', sys.stderr)
                    unread += 1
                    continue
                picture = frame if isinstance(frame, np.ndarray) else cv2.imread(str(frame))
                results.add(name, picture.shape, found)
                if drawing is None:
                    continue
                drawn = drawing(picture, found)
                if not args.no_draw:
                    source.keep(drawn, Path(args.out), name)
                if args.show and not show(drawn):
                    break
        except KeyboardInterrupt:
            bar.write('interrupted: what was detected is written', sys.stderr)
            interrupted = True
    results.write(Path(args.out))
    print(f'{len(results.found)} detections on {len(results.images)} images: {args.out}')
    if unread:
        print(f'{unread} pictures could not be read', file=sys.stderr)
    return 130 if interrupted else 2 if unread else 0


class Pictures(contextlib.nullcontext):
    """Picture files: one, or all below a folder."""

    def __init__(self, root: Path, paths: list[Path]) -> None:
        super().__init__(self)
        self.root, self.paths = root, paths

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def names(self) -> list[str]:
        """Of each, below the root."""
        return [path.relative_to(self.root).as_posix() for path in self.paths]

    def frames(self) -> Iterator[Frame]:
        """Name and path of each."""
        yield from zip(self.names, self.paths, strict=True)

    def keep(self, picture: np.ndarray, folder: Path, name: str) -> None:
        """Write a picture with boxes."""
        path = folder / name
        suffix = '.jpg' if path.suffix.lower() == '.jfif' else path.suffix
        try:
            _, content = cv2.imencode(suffix, picture)
        except cv2.error:
            raise UserError(
                f'{path} cannot be written: OpenCV does not encode {suffix}: give --no-draw'
            ) from None
        write(content.tobytes(), path)


class Stream(contextlib.AbstractContextManager):
    """Frames of a video or a camera."""

    def __init__(self, given: str, opened: str | int) -> None:
        self.capture = cv2.VideoCapture(opened)
        if not self.capture.isOpened():
            raise UserError(
                f'{given} cannot be read: it is no picture, no folder, and no video or camera that '
                'OpenCV can open'
            )
        self.paths = [Path(opened)] if isinstance(opened, str) else []
        self.name = f'{Path(given).stem if self.paths else f"camera{opened}"}.mp4'
        self.names = [self.name]  # of what is written
        self.writer = self.partial = None

    def __exit__(self, *error: object) -> None:
        self.capture.release()
        if self.writer is not None:
            self.writer.release()
            os.replace(self.partial, self.partial.with_name(self.name))

    def __len__(self) -> int:
        # -1 or an absurd number where it is not known.
        return max(int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)

    def frames(self) -> Iterator[Frame]:
        """Number, and pixels, of each."""
        for index in itertools.count():
            there, picture = self.capture.read()
            if not there:
                break
            yield f'{index:06}', picture

    def keep(self, picture: np.ndarray, folder: Path, name: str) -> None:
        """Append a frame with boxes to the video."""
        if self.writer is None:
            folder.mkdir(parents=True, exist_ok=True)
            self.partial = folder / f'.{self.name}'
            rate = self.capture.get(cv2.CAP_PROP_FPS) or 25
            code = cv2.VideoWriter_fourcc(*'mp4v')
            writer = cv2.VideoWriter(str(self.partial), code, rate, picture.shape[1::-1])
            if not writer.isOpened():
                raise UserError(f'{folder / self.name} cannot be written: OpenCV has no MP4 here')
            self.writer = writer
        self.writer.write(picture)


def open_source(given: str) -> Pictures | Stream:
    """What a command line names: picture, folder, video or camera."""
    kind, _, number = given.rpartition(':')
    if kind == 'camera' and number.isdecimal():
        return Stream(given, int(number))
    path = Path(given)
    if path.is_dir():
        paths = sorted(p for p in path.rglob('*') if p.suffix.lower() in SUFFIXES)
        if not paths:
            raise UserError(f'{given} has no picture: none ends in {", ".join(SUFFIXES)}')
        return Pictures(path, paths)
    require_file(given, 'input')
    if path.suffix.lower() in SUFFIXES:
        return Pictures(path.parent, [path])
    return Stream(given, given)


def keep_inputs(source: Pictures | Stream, folder: Path) -> None:
    """Refuse a folder where what is drawn would take the place of what is read."""
    inputs = {path.resolve() for path in source.paths}
    for name in source.names:
        if (folder / name).resolve() in inputs:
            raise UserError(f'--out {folder}: {folder / name} would be overwritten: give another')


class Results:
    """Detections as COCO writes them, with the ids of ``ann_file``, from 1 where that is None."""

    def __init__(
        self, classes: tuple[str, ...], ann_file: str | None, source: Pictures | Stream
    ) -> None:
        self.categories = [dict(id=i, name=name) for i, name in enumerate(classes, 1)]
        self.image_ids: dict[str, int] = {}
        if ann_file is not None:
            known = read_annotations(ann_file, test_mode=True, masks=False)
            for finding in check_entries({**known, 'annotations': []}, Use(classes)):
                if finding.fatal:
                    raise UserError(f'--ann-file {ann_file}: {finding.message}')
            self.categories = known['categories']
            self.image_ids = {i['file_name']: i['id'] for i in known['images']}
        ids = {category['name']: category['id'] for category in self.categories}
        if missing := sorted(set(classes) - ids.keys()):
            raise UserError(f'--ann-file {ann_file} lacks the classes {", ".join(missing)}')
        self.category_ids = [ids[name] for name in classes]
        absent = [name for name in source.names if name not in self.image_ids]
        if absent and ann_file is not None:
            raise UserError(f'--ann-file {ann_file} has no image {absent[0]}: leave it out')
        self.images: list[dict] = []
        self.found: list[dict] = []

    def add(self, name: str, shape: tuple[int, ...], found: InstanceData) -> None:
        """Add the detections of an image."""
        number = self.image_ids.get(name, len(self.images) + 1)
        self.images.append(dict(id=number, file_name=name, width=shape[1], height=shape[0]))
        columns = (found.bboxes.tolist(), found.scores.tolist(), found.labels.tolist())
        for (x, y, right, bottom), score, label in zip(*columns, strict=True):
            box = [round(v, 3) for v in (x, y, right - x, bottom - y)]
            ids = dict(image_id=number, category_id=self.category_ids[label])
            self.found.append(dict(ids, bbox=box, score=round(score, 6)))

    def write(self, folder: Path) -> None:
        """Write both files."""
        write_json(self.found, folder / 'results.bbox.json')
        write_json(dict(images=self.images, categories=self.categories), folder / 'images.json')


def show(picture: np.ndarray) -> bool:
    """Show a picture until the next; returns False where q was pressed."""
    try:
        cv2.imshow('mmshuffle', picture)
        return cv2.waitKey(1) != ord('q')
    except cv2.error:
        raise UserError('--show needs a screen and an OpenCV with windows: leave it out') from None


if __name__ == '__main__':
    cli.run(main)
