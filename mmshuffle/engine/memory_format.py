"""The channels_last memory layout, kept away from operators that misread it."""

from functools import partial

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from .hooks import unwrapped_model

MEMORY_FORMATS = {'contiguous': torch.contiguous_format, 'channels_last': torch.channels_last}


@HOOKS.register_module()
class MemoryFormatHook(Hook):
    """Runs a model in a memory layout, see :func:`mmshuffle.engine.set_memory_format`."""

    def __init__(self, memory_format: str = 'channels_last') -> None:
        self.memory_format = memory_format
        self._done = False

    def before_run(self, runner: Runner) -> None:
        """Convert the model once, before training or testing."""
        if self._done:
            return
        self._done = True
        model = unwrapped_model(runner)
        set_memory_format(model, self.memory_format)
        if is_model_wrapper(runner.model):
            # A distributed wrapper lays its buckets out by the strides that the parameters have.
            runner.model = runner.wrap_model(runner.cfg.get('model_wrapper_cfg'), model)


def set_memory_format(model: nn.Module, memory_format: str) -> None:
    """Give the 4-D weights and the backbone's input of a detector or classifier a memory layout.

    mmcv's operators (RoIAlign, deformable convolutions and others) read features and weights as
    NCHW whatever their strides, and on the CPU return garbage for channels_last ones without a
    word. They get contiguous ones from here on.
    """
    if memory_format not in MEMORY_FORMATS:
        known = ', '.join(MEMORY_FORMATS)
        raise ValueError(f'memory_format={memory_format!r}: choose one of {known}')
    for handle in getattr(model, '_memory_format_hooks', ()):
        handle.remove()
    layout = MEMORY_FORMATS[memory_format]
    model.to(memory_format=layout)
    backbone, plain = getattr(model, 'backbone', model), torch.contiguous_format
    handles = [backbone.register_forward_pre_hook(partial(_lay_out, layout))]
    for module in model.modules():
        if type(module).__module__.startswith('mmcv.ops'):
            module.to(memory_format=plain)
            handles.append(module.register_forward_pre_hook(partial(_lay_out, plain)))
    model._memory_format_hooks = handles


def _lay_out(layout: torch.memory_format, module: nn.Module, args: tuple) -> tuple:
    """Give every 4-D tensor argument of a module a layout."""
    return tuple(
        a.contiguous(memory_format=layout) if isinstance(a, Tensor) and a.dim() == 4 else a
        for a in args
    )
