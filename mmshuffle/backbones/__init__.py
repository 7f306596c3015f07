"""The networks, one a file; importing this package registers them in ``mmdet.registry.MODELS``."""

from .base import BaseBackbone
from .mobilenet_v1 import MobileNetV1
from .shufflenet_v1 import ShuffleNetV1
from .shufflenet_v2 import ShuffleNetV2

__all__ = ['BaseBackbone', 'MobileNetV1', 'ShuffleNetV1', 'ShuffleNetV2']
