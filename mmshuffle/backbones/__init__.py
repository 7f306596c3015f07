"""The networks, one a file; importing this package registers them in ``mmdet.registry.MODELS``."""

from .alexnet import AlexNet
from .base import BaseBackbone
from .mobilenet_v1 import MobileNetV1
from .shufflenet_v1 import ShuffleNetV1
from .shufflenet_v1_baselines import ShuffleNetV1Baseline
from .shufflenet_v2 import ShuffleNetV2
from .squeezenet import SqueezeNet
from .xception_like import XceptionLike

__all__ = [
    'AlexNet',
    'BaseBackbone',
    'MobileNetV1',
    'ShuffleNetV1',
    'ShuffleNetV1Baseline',
    'ShuffleNetV2',
    'SqueezeNet',
    'XceptionLike',
]
