"""Checkpoints as plain data, written atomically."""

import os
from collections import OrderedDict, deque
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer
from torch import Tensor

from mmshuffle.weights.state import as_tensor
from mmshuffle.weights.unpickler import Unread

HISTORY = '__history__'
# Names of parts are not longer, but in a file whose parts contain each other.
MAX_PATH = 500


def to_plain(value: Any, path: str, dropped: list[str] | None = None) -> Any:
    """Turn what a mmengine runner saves into tensors, numbers, strings and containers of these.

    PyTorch's weights-only unpickler reads nothing else, and needs nothing allow-listed for it.

    Args:
        value: Arrays become tensors, numpy scalars become Python's, other sequences and sets become
            lists, and a ``HistoryBuffer`` becomes a mapping that :func:`from_plain` turns back.
        dropped: Collects the names of parts that have no plain form, such as functions; a mapping
            loses them, and in a sequence they become None.

    Raises:
        TypeError: A part has no plain form, and ``dropped`` is None.
    """
    # Before Python's numbers: numpy.float64 is a float, but not a plain one.
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str, bytes, Tensor, torch.dtype)):
        return value
    nested = len(path) <= MAX_PATH
    if isinstance(value, np.ndarray):
        tensor = as_tensor(value.copy())
        if tensor is not None:
            return tensor
        if nested:
            return to_plain(value.tolist(), f'{path}[:]', dropped)
    if isinstance(value, HistoryBuffer):
        log, count = value.data
        return {HISTORY: [to_plain(log, path), to_plain(count, path), value.max_length]}
    if nested and isinstance(value, Mapping) and not isinstance(value, Unread):
        if isinstance(value, OrderedDict) and all(isinstance(v, Tensor) for v in value.values()):
            return value  # a state dict, whose version numbers a copy would lose
        plain = {k: to_plain(v, f'{path}.{k}', dropped) for k, v in value.items()}
        # Without what was dropped, so that whoever restores the rest keeps their own.
        return {k: v for k, v in plain.items() if v is not None or value[k] is None}
    if nested and isinstance(value, (list, tuple, set, frozenset, deque)):
        items = [to_plain(v, f'{path}[{i}]', dropped) for i, v in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, (PurePath, torch.device)):
        return str(value)
    if dropped is None:
        raise TypeError(f'{path} is a {type(value).__name__}, which has no plain form')
    dropped.append(path)
    return None


def from_plain(value: Any) -> Any:
    """Undo :func:`to_plain` for histories, also for those of mmengine's own checkpoints.

    Everything else is returned as it is.
    """
    if isinstance(value, Unread) and value.name.endswith('.HistoryBuffer'):
        state = value.state if isinstance(value.state, Mapping) else {}
        log, count = state.get('_log_history'), state.get('_count_history')
        if isinstance(log, np.ndarray) and isinstance(count, np.ndarray) and len(log) == len(count):
            return HistoryBuffer(log, count, int(state.get('max_length', 1_000_000)))
    elif isinstance(value, Mapping) and HISTORY in value:
        log, count, max_length = value[HISTORY]
        return HistoryBuffer(log.cpu().numpy(), count.cpu().numpy(), max_length)
    return value


class AtomicBackend(LocalBackend):
    """Local files that are either whole or absent, whenever the process or the machine stops.

    A config chooses it with ``backend_args=dict(backend='atomic')`` of its ``CheckpointHook``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write ``obj`` to a neighbouring file, flush it to the disk and rename it."""
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
        try:
            with open(partial, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


register_backend('atomic', AtomicBackend, force=True)
