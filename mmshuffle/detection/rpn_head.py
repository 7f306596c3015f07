"""MMDetection's RPN on one of the feature maps."""

from collections.abc import Sequence

from mmdet.models.dense_heads import RPNHead
from torch import Tensor


class LastMapRPNHead(RPNHead):
    """RPN on the last feature map alone; the others are for the RoI head.

    Light-Head R-CNN proposes regions from C4 and pools them from a thin map behind C5 (arXiv
    1711.07264, section 3.2). The arguments are MMDetection's.

    Attributes:
        reads (slice): Of the class: the feature maps that it takes from those it is given.
    """

    reads = slice(-1, None)

    def forward(self, x: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Scores and box offsets of the anchors on the last map, as MMDetection's RPN gives."""
        return super().forward(x[self.reads])
