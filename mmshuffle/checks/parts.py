"""Parts of a detector, built and run on blank images to see whether they fit each other.

They are built on PyTorch's meta device, which has shapes and no numbers, so that this takes neither
memory nor time. What cannot run there, such as an operator written in C++, runs on the CPU.
"""

import contextlib
import copy
import importlib.util
import inspect
import re
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmshuffle.data.finetune import walk
from mmshuffle.errors import one_line

from .dataset_config import type_name
from .problem import Problem

Part = Mapping[str, Any] | Sequence[Mapping[str, Any]]
# What PyTorch and MMDetection say where channels, sizes or numbers of levels differ.
MISFIT = re.compile(
    r'expected input.* to have|must match|size mismatch|shapes cannot be multiplied|'
    r'invalid for input of size|normalized_shape|expected weight to be|out of range|^assert '
)

ABSENT = re.compile(r'not installed|No module named')


@dataclass(frozen=True)
class Features:
    """Feature maps of an image."""

    maps: tuple[Tensor, ...]  # tensors (N, C_i, H_i, W_i) on the meta device
    size: int

    @property
    def channels(self) -> list[int]:
        """Channels of each map."""
        return [m.shape[1] for m in self.maps]

    @property
    def strides(self) -> list[int]:
        """Stride of each map against the image."""
        return [round(self.size / m.shape[-1]) for m in self.maps]

    @classmethod
    def of(cls, outputs: Any, size: int) -> 'Features | None':
        """What a backbone or neck returned; None if it is no list of feature maps."""
        maps = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        if not maps or not all(isinstance(m, Tensor) and m.ndim == 4 for m in maps):
            return None
        return cls(tuple(m.to('meta') for m in maps), size)


@dataclass(frozen=True)
class Trial:
    """What became of building a part and running it."""

    module: nn.Module | None = None
    outputs: Any = None
    # Why it cannot be built or does not take these inputs, in one line; None where nothing is known
    # to be wrong.
    error: str | None = None
    fix: Mapping[str, Any] | None = None  # settings under which it runs, if not its own
    absent: bool = False


class _EmptyOnMeta(TorchFunctionMode):
    """Make parameters on the meta device, and the small tensors of constructors where they belong.

    Constructors compute with these (``torch.linspace(...)`` and ``item()`` for the rates of
    stochastic depth), which ``torch.device('meta')`` does not allow.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs['device'] = 'meta'
        return func(*args, **kwargs)


def fit(part: Part, inputs: Any, fixes: Iterable[Mapping[str, Any]] = ()) -> Trial:
    """Run a part on inputs, and if it does not take them, look for settings under which it does.

    Its one argument is a tensor, or tensors, on the meta device; the likeliest fixes come first.
    """
    fixes = list(fixes)
    for device in ('meta', 'cpu'):
        trial, certain = _try(part, inputs, device)
        if trial.error is None:
            return trial
        for fix in fixes:
            fixed, _ = _try({**part, **fix}, inputs, device)
            if fixed.outputs is not None:
                return Trial(fixed.module, fixed.outputs, trial.error, fix)
    return trial if certain else Trial(trial.module)


def observe(backbone: Mapping[str, Any], size: int) -> tuple[Trial, Features | None]:
    """Run a backbone on a blank image; its feature maps are None where it gives none."""
    channels = backbone.get('in_channels', 3)
    image = torch.empty(1, channels if isinstance(channels, int) else 3, size, size, device='meta')
    # Deformable and switchable convolutions have no meta form, and the shapes of plain ones.
    plain = {key: None for key in ('dcn', 'sac') if backbone.get(key)}
    trial = fit({**backbone, **plain}, image)
    return trial, Features.of(trial.outputs, size)


def unbuildable(where: str, part: Mapping[str, Any], trial: Trial) -> Problem:
    """Say why a part cannot be built; that a package is absent is no fault of the config."""
    message = f'{type_name(part)} cannot be built: {trial.error}'
    return Problem(where, message, fatal=not trial.absent)


def _try(part: Part, inputs: Any, device: str) -> tuple[Trial, bool]:
    """Try a part on one device; also say whether a failure is certainly the part's."""
    try:
        module = _build(part, device)
    except Exception as error:  # whatever a constructor raises
        reason, absent = explain(error)
        kind = part.get('type') if isinstance(part, Mapping) else None
        package = kind.partition('.')[0] if isinstance(kind, str) and '.' in kind else 'torch'
        return Trial(error=reason, absent=absent or not importlib.util.find_spec(package)), True
    try:
        inspect.signature(module.forward).bind(inputs)
    except TypeError:  # it takes more than feature maps
        return Trial(module), False
    if device == 'cpu':
        zeros = [torch.zeros(m.shape) for m in ([inputs] if isinstance(inputs, Tensor) else inputs)]
        inputs = zeros[0] if isinstance(inputs, Tensor) else tuple(zeros)
    try:
        with torch.no_grad():
            return Trial(module, module(inputs)), True
    except Exception as error:
        reason, _ = explain(error)
        return Trial(module, error=reason), MISFIT.search(reason) is not None


def _build(part: Part, device: str) -> nn.Module:
    part = copy.deepcopy(part)
    for _, node in walk(part):
        if node.get('type') == 'MMSyncBN':  # which is built in distributed runs only
            node['type'] = 'BN'
    if isinstance(part, Mapping):
        part = {'_scope_': 'mmdet', **part}
    with _EmptyOnMeta() if device == 'meta' else contextlib.nullcontext():
        module = MODELS.build(part).to(device)
    module.eval()  # ResNet's returns nothing
    return module


def explain(error: Exception) -> tuple[str, bool]:
    """An error in one line, and whether it is that a package is absent.

    Of an assertion without words, the line is the statement that failed.
    """
    first: BaseException = error
    while first.__context__ is not None:
        first = first.__context__
    frames = traceback.extract_tb(first.__traceback__)
    if isinstance(first, AssertionError) and not str(first).strip() and frames:
        return frames[-1].line or 'assert', False
    reason = one_line(error)
    return reason, isinstance(error, ImportError) or ABSENT.search(reason) is not None
