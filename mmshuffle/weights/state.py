"""Which tensors of a file are the weights: wrappers, moving averages, optimiser slots."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .unpickler import Unread

# Keys that hold a model's weights, and those that hold moving averages of them.
MODEL_KEYS = (
    'state_dict',
    'model_state_dict',
    'model_state',
    'model',
    'net',
    'network',
    'params',
    'weights',
)
# Not mmengine's: it swaps them with the others when it saves.
AVERAGE_KEY = re.compile(r'(?!ema_state_dict$)(\w+_)?(ema|averaged)(_\w+)?')
OTHER_KEYS = re.compile(r'optim|sched|scaler|message_hub|meta|ema_state_dict|loops|callbacks')
# What wrappers of a whole model put in front of its names: data parallel, torch.compile.
WRAPPER = re.compile(r'^(module\.|_orig_mod\.)+|(?<=\.)_orig_mod\.')
MAX_DEPTH = 32
MAX_OBJECTS = 200_000

AVERAGE = '/ExponentialMovingAverage'
SLOT = re.compile(r'/(RMSProp|Momentum|Adam|Adagrad|Adadelta|Ftrl|LARS|LAMB)(_\d+)?$')


class Weights(NamedTuple):
    """Tensors of a file."""

    tensors: dict[str, Tensor]  # by the names that their publisher gave them
    meta: Any = None  # the ``meta`` of a training checkpoint, None where there is none
    notes: tuple[str, ...] = ()  # what was chosen, where there was a choice


def find_weights(content: Any) -> Weights:
    """Find the weights in what a file holds; no tensors where there are none.

    The weights may lie below keys such as ``state_dict``, in a dictionary of dictionaries, or in a
    module that was saved whole. Where moving averages of all of them lie beside them, those are
    taken, as whoever keeps them does to test.
    """
    if not isinstance(content, Mapping):
        return Weights({})
    meta = content.get('meta')
    averages = [
        key
        for key, value in content.items()
        if isinstance(key, str) and AVERAGE_KEY.fullmatch(key) and isinstance(value, Mapping)
    ]
    rest = content
    if averages and not isinstance(content, Unread):
        rest = {key: value for key, value in content.items() if key not in averages}
    tensors, notes = _unwrapped(rest), ()
    for key in averages:
        averaged = _unwrapped(content[key])
        if averaged and _bare(averaged) >= _bare(tensors):
            return Weights(averaged, meta, (f'the moving averages below {key} are taken',))
        if averaged:
            notes = (f'the moving averages below {key} are not of all tensors, and not taken',)
    if any('/' in name for name in tensors):
        tensors, notes = _variables(tensors)
    return Weights(tensors, meta, notes)


def as_tensor(array: np.ndarray) -> Tensor | None:
    """Make a tensor of an array, None where it is not of numbers."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in 'biufc':
        return None
    # PyTorch has neither long doubles nor foreign byte orders.
    dtype = {'g': 'f8', 'G': 'c16'}.get(array.dtype.char, array.dtype.newbyteorder('='))
    return torch.from_numpy(array.astype(dtype, copy=False))


def _unwrapped(content: Mapping) -> dict[str, Tensor]:
    left = iter(range(MAX_OBJECTS))
    return {WRAPPER.sub('', name): value for name, value in _walk(content, left, 0)}


def _walk(content: Mapping, left: Iterator[int], depth: int) -> Iterator[tuple[str, Tensor]]:
    if depth > MAX_DEPTH:
        return
    state = content.state if isinstance(content, Unread) else None
    if isinstance(content, Unread) and state is None and not content:
        # A compiled module is pickled as a call with the module.
        content = {'_orig_mod': content.args[0]} if content.args else content
    if isinstance(state, Mapping):
        parts = [state.get(name) for name in ('_parameters', '_buffers', '_modules')]
        if not content and all(isinstance(part, Mapping) for part in parts):
            for part in parts:
                yield from _walk(part, left, depth + 1)
            return
    if depth < 4:
        for key in MODEL_KEYS:
            if isinstance(content.get(key), Mapping):
                found = list(_walk(content[key], left, depth + 1))
                if found:
                    yield from found
                    return
    for key, value in content.items():
        # Mappings that contain each other, or one another many times, would never end.
        if next(left, None) is None:
            return
        if not isinstance(key, str):
            continue
        if isinstance(value, np.ndarray):
            value = as_tensor(value)
        if isinstance(value, Tensor):
            yield key, value
        elif isinstance(value, Mapping) and not OTHER_KEYS.search(key):
            for name, inner in _walk(value, left, depth + 1):
                yield f'{key}.{name}', inner


def _bare(tensors: Mapping[str, Tensor]) -> set[str]:
    """Names without what wrappers of a model put in front of them."""
    return {re.sub(r'^((module|model|shadow)\.)+', '', name) for name in tensors}


def _variables(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Take moving averages for variables of TensorFlow, and leave out optimisers' slots."""
    named = {re.sub(r':\d+$', '', name): value for name, value in tensors.items()}
    averages = {n.removesuffix(AVERAGE): v for n, v in named.items() if n.endswith(AVERAGE)}
    plain = {
        name: value
        for name, value in named.items()
        if not name.endswith(AVERAGE) and not SLOT.search(name)
    }
    if not averages:
        return plain, ()
    count = f'{len(averages)} of {len(plain | averages)}'
    return plain | averages, (f'moving averages are taken for {count} variables',)
