"""The channels_last memory layout, kept away from operators that misread it."""

import torch
from torch import Tensor, nn

MEMORY_FORMATS = {'contiguous': torch.contiguous_format, 'channels_last': torch.channels_last}


def set_memory_format(model: nn.Module, memory_format: str) -> None:
    """Give the 4-D weights and the backbone's input of a detector a memory layout.

    mmcv's operators (RoIAlign, deformable convolutions and others) read features and weights as
    NCHW whatever their strides, and on the CPU return garbage for channels_last ones without a
    word. They get contiguous ones from here on.

    Args:
        model: Detector or classifier, changed in place.
        memory_format: ``'contiguous'`` or ``'channels_last'``.

    Raises:
        ValueError: Another ``memory_format``.
    """
    if memory_format not in MEMORY_FORMATS:
        known = ', '.join(MEMORY_FORMATS)
        raise ValueError(f'memory_format={memory_format!r}: choose one of {known}')
    for handle in getattr(model, '_memory_format_hooks', ()):
        handle.remove()
    layout = MEMORY_FORMATS[memory_format]
    model.to(memory_format=layout)
    backbone = getattr(model, 'backbone', model)
    handles = [backbone.register_forward_pre_hook(_convert(layout))]
    for module in model.modules():
        if type(module).__module__.startswith('mmcv.ops'):
            module.to(memory_format=torch.contiguous_format)
            handles.append(module.register_forward_pre_hook(_convert(torch.contiguous_format)))
    model._memory_format_hooks = handles


def _convert(layout: torch.memory_format):
    """A hook that gives every 4-D tensor argument a layout."""

    def hook(module: nn.Module, args: tuple) -> tuple:
        return tuple(
            a.contiguous(memory_format=layout) if isinstance(a, Tensor) and a.dim() == 4 else a
            for a in args
        )

    return hook
