"""What a detector needs beyond a backbone."""

import importlib
from functools import partial
from typing import Any

from mmdet.registry import MODELS
from torch import nn

from .large_separable_conv import LargeSeparableConv
from .stage_head import BackboneStageHead

__all__ = ['BackboneStageHead', 'LargeSeparableConv']
# Subclasses of MMDetection's modules, whose import would make that of this package a slow one: they
# are imported when they are built.
DERIVED = (
    *('DilatedMobileNetV2', 'DynamicGFLHead', 'LastMapRPNHead', 'PredictingSSDHead'),
    'PSRoIExtractor',
)


def _build(name: str, **arguments: Any) -> nn.Module:
    return getattr(importlib.import_module(f'{__name__}.derived'), name)(**arguments)


for _name in DERIVED:
    MODELS.register_module(name=_name, module=partial(_build, _name))
