"""Counts what one inference executes, with the help of a plugin of QEMU (targets/count.c)."""

from __future__ import annotations

import contextlib
import gc
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .runtimes import Loaded, Problem

FILE = 'counts.jsonl'  # where the plugin writes, in the folder of the measurement
CLASSES = ('fp_simd', 'load_store', 'branch', 'integer', 'other')
Cost = 'dict[str, int]'  # as text, because Python 3.8 cannot evaluate it


def count(network: Loaded, folder: Path) -> dict[str, Any]:
    """Count one inference, not the first, as the difference between two in a row and one.

    Returns:
        ``executed``: ``instructions`` and how many of each class, the ``accesses`` to memory and
        their ``bytes``, and misses of the caches; and ``layers``, each with ``name``, ``type`` and
        the same figures, where the runtime can stop behind every layer.

    Raises:
        Problem: There is no plugin.
    """

    def twice() -> None:
        network.call()
        network.call()

    layers = [] if network.layers is None else network.layers()
    steps = [call for _, _, call in layers for call in (call, call)]
    # The first call fills the caches, which are simulated from the first mark on.
    _, one, two, *costs = executed([network.call, network.call, twice, *steps], folder / FILE)
    return dict(
        executed=_difference(two, one),
        layers=[
            dict(name=name, type=kind, **_difference(cost, reading))
            for (name, kind, _), cost, reading in zip(layers, costs[::2], costs[1::2])
        ],
    )


def executed(calls: Sequence[Callable[[], Any]], path: Path) -> list[Cost]:
    """What each call adds to the counters, what the marks themselves take included.

    Raises:
        Problem: It has not written there.
    """

    def run() -> None:
        for call in calls:
            _mark()
            call()
        _mark()

    gc.collect()
    gc.disable()
    # A new thread has a heap of its own. In that of the main thread, what start-up has left makes
    # the search for a free block longer or shorter: 0.2 % by the length of a folder's name alone.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(run).result()
    try:
        marks = [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()]
    except OSError:
        marks = []
    if len(marks) != len(calls) + 1:
        raise Problem('the plugin of QEMU has not counted: this is no emulated system')
    pairs = zip(marks, marks[1:])  # noqa: RUF007  (pairwise is of Python 3.10)
    return [{key: after[key] - before[key] for key in before} for before, after in pairs]


def _mark() -> None:
    with contextlib.suppress(OSError):
        os.lseek(-1, 0, os.SEEK_SET)  # fails; the plugin sees it


def _difference(cost: Cost, other: Cost) -> Cost:
    found = {key: cost[key] - other[key] for key in cost}
    return dict(instructions=sum(found[key] for key in CLASSES), **found)
