"""Checkpoints as plain data, written atomically, and found again after a crash."""

import os
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer
from torch import Tensor

from mmshuffle.errors import UserError
from mmshuffle.weights import read_checkpoint

HISTORY = '__history__'


def to_plain(value: Any) -> Any:
    """Turn what a mmengine runner saves into tensors, numbers, strings and containers of these.

    PyTorch's weights-only unpickler reads nothing else, and needs nothing allow-listed for it.

    Args:
        value: Arrays become tensors, numpy scalars become Python's, and a ``HistoryBuffer`` becomes
            a mapping that :func:`from_plain` turns back.

    Raises:
        TypeError: A value has no plain form.
    """
    # Before Python's numbers: numpy.float64 is a float, but not a plain one.
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str, bytes, Tensor)):
        return value
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, HistoryBuffer):
        log, count = value.data
        return {HISTORY: [to_plain(log), to_plain(count), value.max_length]}
    if isinstance(value, Mapping):
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        return kind((key, to_plain(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return type(value)(to_plain(item) for item in value)
    if isinstance(value, torch.dtype):
        return value
    raise TypeError(f'{type(value).__name__} has no plain form')


def from_plain(value: Any) -> Any:
    """Undo :func:`to_plain` for histories; everything else is returned as it is."""
    if isinstance(value, Mapping) and HISTORY in value:
        log, count, max_length = value[HISTORY]
        return HistoryBuffer(log.numpy(), count.numpy(), max_length)
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


def find_resumable(work_dir: str | Path) -> Path | None:
    """Find the newest checkpoint of ``work_dir`` that can be read whole.

    mmengine trusts the file ``last_checkpoint`` blindly; here a checkpoint that was cut off or
    deleted is passed over for the one before it.

    Args:
        work_dir: Folder of a training run.

    Returns:
        The path; None where the folder has no checkpoint.

    Raises:
        UserError: There are checkpoints, but none that can be read.
    """
    candidates = sorted(Path(work_dir).glob('*.pth'), key=_progress, reverse=True)
    candidates = [path for path in candidates if re.match(r'(epoch|iter)_\d+\.pth$', path.name)]
    problems = []
    for path in candidates:
        try:
            content = read_checkpoint(path)
        except UserError as error:
            problems.append(str(error))
            continue
        if isinstance(content, Mapping) and {'meta', 'state_dict', 'message_hub'} <= content.keys():
            return path
        problems.append(f'{path} is no training checkpoint')
    if problems:
        raise UserError(f'no checkpoint of {work_dir} can be resumed: {"; ".join(problems)}')
    return None


def _progress(path: Path) -> tuple[float, str]:
    return path.stat().st_mtime, path.name
