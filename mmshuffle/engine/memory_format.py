"""The channels_last memory layout, kept away from operators that misread it."""

import torch
from mmcv.ops import RoIAlign, RoIPool
from torch import nn

FORMATS = {'contiguous': torch.contiguous_format, 'channels_last': torch.channels_last}


def set_memory_format(model: nn.Module, memory_format: str) -> None:
    """Give the 4-D weights and the backbone's input of a detector a memory layout.

    mmcv's RoI operators read their features as NCHW whatever their strides, and on the CPU return
    garbage for channels_last ones without a word. They get contiguous features from here on.

    Args:
        model: Detector or classifier, changed in place.
        memory_format: ``'contiguous'`` or ``'channels_last'``.

    Raises:
        ValueError: Another ``memory_format``.
    """
    if memory_format not in FORMATS:
        raise ValueError(f'memory_format={memory_format!r}: choose one of {", ".join(FORMATS)}')
    layout = FORMATS[memory_format]
    model.to(memory_format=layout)

    def convert_images(module: nn.Module, args: tuple) -> tuple:
        return (args[0].contiguous(memory_format=layout), *args[1:])

    def convert_features(module: nn.Module, args: tuple) -> tuple:
        return (args[0].contiguous(), *args[1:])

    getattr(model, 'backbone', model).register_forward_pre_hook(convert_images)
    for module in model.modules():
        if isinstance(module, (RoIAlign, RoIPool)):
            module.register_forward_pre_hook(convert_features)
