#!/usr/bin/env python3
"""Copy a folder of images so that training reads random crops of its JPEGs faster.

The copies have restart markers, which let LoadRandomResizedCrop read only what a crop needs. Their
pixels are the same, which is checked, their size is too within a percent or so, and every program
reads them. What is no JPEG, or none that this can rewrite, is copied as it is. An interrupted run
goes on where it stopped.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path

EXAMPLE = """example:
  python tools/add_restart_markers.py data/imagenet/train data/imagenet_marked/train --workers 8
"""
SUFFIXES = ('.jpg', '.jpeg')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', help='folder of images, also in folders below it')
    parser.add_argument('target', help='folder for the copies')
    parser.add_argument(
        '--workers',
        type=int,
        default=os.cpu_count(),
        help='files at a time (default %(default)s, one a core)',
    )
    args = parser.parse_args(argv)
    if args.workers < 1:
        parser.error(f'--workers {args.workers}: give a number of at least 1')
    return args


def check(source: Path, target: Path) -> None:
    """Refuse folders that cannot be copied one into the other."""
    from mmshuffle.errors import UserError

    if not source.is_dir():
        raise UserError(f'{source} is no folder: give the one that holds the images')
    if target.exists() and not target.is_dir():
        raise UserError(f'{target} is a file: give a folder for the copies')
    if source.resolve() in (target.resolve(), *target.resolve().parents):
        raise UserError(f'{target} lies in {source}: give a folder outside of it')


def waiting(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """Files that are not copied yet, and where to."""
    for folder, _, names in os.walk(source):
        place = target / Path(folder).relative_to(source)
        present = set(os.listdir(place)) if place.is_dir() else set()
        yield from ((Path(folder, name), place / name) for name in names if name not in present)


def copy(paths: tuple[Path, Path]) -> tuple[bool, int, int]:
    """Copy a file; return whether it got markers, and its size before and after."""
    import cv2
    import numpy as np

    from mmshuffle.classification.restart import add_markers
    from mmshuffle.engine.files import write

    source, target = paths
    data = source.read_bytes()
    marked = add_markers(data) if source.suffix.lower() in SUFFIXES else None
    if marked is not None:
        before, after = (cv2.imdecode(np.frombuffer(d, np.uint8), 1) for d in (data, marked))
        if before is None or not np.array_equal(before, after):
            marked = None
    copied = data if marked is None else marked
    write(copied, target)
    return marked is not None, len(data), len(copied)


def main(argv: list[str] | None = None) -> None:
    """Copy."""
    args = parse_args(argv)
    source, target = Path(args.source), Path(args.target)
    check(source, target)
    import cv2
    from tqdm import tqdm

    from mmshuffle.classification.restart import find_jpegtran
    from mmshuffle.errors import UserError

    find_jpegtran()
    cv2.setNumThreads(0)
    files = list(waiting(source, target))
    count = before = after = 0
    try:
        with ThreadPool(args.workers) as pool:
            copies = pool.imap_unordered(copy, files)
            for marked, old, new in tqdm(copies, total=len(files), desc='files', file=sys.stderr):
                count, before, after = count + marked, before + old, after + new
    except OSError as error:
        raise UserError(f'{error}: mend that and run the same command again') from None
    growth = f', {after / before - 1:+.1%} of size' if before else ''
    print(f'{target}: {len(files)} files copied, {count} of them with restart markers{growth}')


if __name__ == '__main__':
    from mmshuffle.engine import cli

    cli.run(main)
