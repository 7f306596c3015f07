"""What a detector needs beyond a backbone."""

import importlib
from typing import Any

from mmdet.registry import MODELS
from torch import nn

from .large_separable_conv import LargeSeparableConv
from .ps_roi_align import PSRoIExtractor
from .stage_head import BackboneStageHead

__all__ = ['BackboneStageHead', 'LargeSeparableConv', 'PSRoIExtractor']
# Subclasses of MMDetection's modules, whose import would make that of this package a slow one: they
# are imported when they are built.
DERIVED = {
    'DynamicGFLHead': 'gfl_head',
    'DilatedMobileNetV2': 'mobilenet_v2',
    'LastMapRPNHead': 'rpn_head',
    'PredictingSSDHead': 'ssd_head',
}


def _register(name: str, module: str) -> None:
    def build(**arguments: Any) -> nn.Module:
        found = importlib.import_module(f'{__name__}.{module}')
        return getattr(found, name)(**arguments)

    MODELS.register_module(name=name, module=build)


for _name, _module in DERIVED.items():
    _register(_name, _module)
