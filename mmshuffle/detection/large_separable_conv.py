"""The large separable convolution of Light-Head R-CNN."""

from collections.abc import Sequence

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F


@MODELS.register_module()
class LargeSeparableConv(BaseModule):
    """Neck that makes the thin map of Light-Head R-CNN (arXiv 1711.07264, section 3.2, Figure 3).

    A k x k convolution in two branches that are added up: k x 1 and 1 x k, and 1 x k and k x 1. As
    in the release, every convolution has a bias, none has a normalisation, and the only activation
    is ReLU behind the sum.

    Args:
        in_channels: Channels of the two inputs; the second is convolved.
        mid_channels: Between the convolutions of a branch; 64 for small backbones in the paper,
            256 for ResNet-101.
        out_channels: Of the thin map: 10 for each of the 7 x 7 bins of an RoI.
        kernel_size: k, odd.
        init_cfg: As in mmengine; a normal distribution of deviation 0.01 where None, as in
            MMDetection's RPN: no initialisation is published.
    """

    num_outs = 2

    def __init__(
        self,
        in_channels: Sequence[int],
        mid_channels: int = 64,
        out_channels: int = 490,
        kernel_size: int = 15,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg or dict(type='Normal', layer='Conv2d', std=0.01))
        _, wide = in_channels

        def branch(*kernels: tuple[int, int]) -> nn.Sequential:
            widths = ((wide, mid_channels), (mid_channels, out_channels))
            return nn.Sequential(
                *(
                    nn.Conv2d(*width, kernel, padding=(kernel[0] // 2, kernel[1] // 2))
                    for width, kernel in zip(widths, kernels, strict=True)
                )
            )

        upright, flat = (kernel_size, 1), (1, kernel_size)
        self.branches = nn.ModuleList([branch(upright, flat), branch(flat, upright)])

    def forward(self, x: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Make the thin map, for the RoIs, and pass the map for the RPN on.

        Args:
            x: C4, (N, in_channels[0], H, W), and C5, (N, in_channels[1], H, W).

        Returns:
            The thin map, (N, out_channels, H, W), and C4.
        """
        c4, c5 = x
        first, second = self.branches
        return F.relu(first(c5) + second(c5)), c4
