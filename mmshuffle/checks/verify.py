"""Every image of a data set, opened in parallel and compared with annotations and other images."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
from torch.utils.data import DataLoader

from mmshuffle.data.annotations import EXAMPLES
from mmshuffle.data.pictures import Fault, Loading, inspect_image, summarise
from mmshuffle.errors import UserError

from .problem import Problem

CHUNK = 16


@dataclass(frozen=True)
class Picture:
    """An image to open."""

    path: str
    size: tuple[float, float] | None = None  # width and height, where annotations say them
    label: int | None = None  # class of the whole image, where it has one


@dataclass(frozen=True)
class Part:
    """The images of one data set."""

    name: str
    source: str
    pictures: Sequence[Picture]
    loading: Loading = field(default_factory=Loading)
    # Its numbers: images, missing, boxes, kept, lost; or images, classes.
    facts: dict[str, Any] = field(default_factory=dict)


def verify(
    parts: Sequence[Part], workers: int = 0, advance: Callable[[int], object] = lambda count: None
) -> tuple[list[Problem], list[tuple[str, Fault]]]:
    """Open every image of some parts, and look for the same content in two places.

    Args:
        workers: Number of processes; 0 opens the images in this one.
        advance: Called with the number of images that were opened since.

    Returns:
        The problems, a line for each kind, and all faults with the names of their parts.

    Raises:
        UserError: A process was killed.
    """
    jobs = [(p.path, p.size, part.loading) for part in parts for p in part.pictures]
    results = iter(_open(jobs, workers, advance))
    problems, every, contents = [], [], []
    for part in parts:
        faults: list[Fault] = []
        content: dict[str, list[Picture]] = {}
        for picture, (digest, found) in zip(part.pictures, results):
            faults += found
            if digest is not None:
                content.setdefault(digest, []).append(picture)
        findings = summarise(faults, len(part.pictures), part.loading, of_sample=False)
        problems += [Problem(part.source, *finding) for finding in findings]
        problems += _twice(part, content)
        every += [(part.name, fault) for fault in faults]
        contents.append(content)
    for (a, first), (b, second) in itertools.combinations(zip(parts, contents, strict=True), 2):
        problems += _shared(a, first, b, second)
    return problems, every


def _twice(part: Part, content: dict[str, list[Picture]]) -> Iterator[Problem]:
    same = [found for found in content.values() if len(found) > 1]
    if same:
        copies = sum(map(len, same)) - len(same)
        message = f'{copies} images are copies of another one ({_pairs(same)}): remove them'
        yield Problem(part.source, message, fatal=False)
    conflicts = [found for found in same if len({p.label for p in found}) > 1]
    if conflicts:
        message = f'{len(conflicts)} images are in two classes ({_pairs(conflicts)})'
        yield Problem(part.source, f'{message}: keep each in one of them')


def _shared(
    a: Part, first: dict[str, list[Picture]], b: Part, second: dict[str, list[Picture]]
) -> Iterator[Problem]:
    """Images of which the figures say little, as they were trained on."""
    both = [[first[digest][0], second[digest][0]] for digest in second if digest in first]
    trained = 'train' in (a.name, b.name)
    if both:
        what = 'they leak into the figures, remove them from one' if trained else 'is that meant?'
        message = f'{len(both)} of {len(b.pictures)} images are also in {a.name}'
        yield Problem(b.source, f'{message} ({_pairs(both)}): {what}', fatal=trained)


def _pairs(same: Sequence[Sequence[Picture]]) -> str:
    """The first two of the first images that are the same."""
    shown = [' = '.join(picture.path for picture in found[:2]) for found in same[:EXAMPLES]]
    return '; '.join(shown + ['...'] * (len(same) > EXAMPLES))


Job = tuple[str, tuple[float, float] | None, Loading]
Opened = list[tuple[str | None, list[Fault]]]


def _open(jobs: Sequence[Job], workers: int, advance: Callable[[int], object]) -> Opened:
    # A forked process has none of OpenCV's threads, but would wait for them if this one has some.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    opening = dict(collate_fn=_open_chunk, worker_init_fn=_start_worker)
    opened: Opened = []
    try:
        for chunk in DataLoader(jobs, batch_size=CHUNK, num_workers=workers, **opening):
            opened += chunk
            advance(len(chunk))
        return opened
    except RuntimeError as error:
        if 'DataLoader worker' not in str(error):
            raise
        raise UserError(
            'a process that opened images was killed, perhaps for its memory: give fewer --workers'
        ) from None
    finally:
        cv2.setNumThreads(threads)


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends them
    cv2.setNumThreads(0)
    # Decoders write of damaged files to the terminal, across the progress bar.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _open_chunk(jobs: Sequence[Job]) -> Opened:
    return [inspect_image(*job) for job in jobs]
