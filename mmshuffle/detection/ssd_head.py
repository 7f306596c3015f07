"""MMDetection's SSD head, with a fault of one version made good."""

from typing import Any

import mmdet
from mmdet.models.dense_heads import SSDHead
from mmdet.registry import MODELS


class PredictingSSDHead(SSDHead):
    """MMDetection's SSDHead that can predict in version 3.3.0 too.

    There the prediction asks ``loss_cls`` of a head how scores are activated, and this head, which
    computes its loss by itself, has none: every SSD of that version raises AttributeError in
    testing. The softmax that it is told is SSD's. In other versions this is their SSDHead; the
    arguments are the same.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if mmdet.__version__ == '3.3.0':
            self.loss_cls = MODELS.build(dict(type='CrossEntropyLoss', use_sigmoid=False))
