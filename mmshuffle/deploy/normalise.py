"""The normalisation of a model's ``data_preprocessor`` as part of its graph."""

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """Channel order, mean and standard deviation as one 1x1 convolution.

    Every format and runtime has that, and a convolution of three channels costs next to nothing.

    Args:
        mean: Of each channel in the network's order, (3,).
        std: Likewise.
        swap: Whether the network wants the opposite order of channels.
    """

    def __init__(self, mean: Tensor, std: Tensor, swap: bool) -> None:
        super().__init__()
        weight = torch.diag(1 / std)
        self.conv = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            self.conv.weight.copy_((weight.flip(1) if swap else weight)[:, :, None, None])
            self.conv.bias.copy_(-mean / std)

    @classmethod
    def of(cls, preprocessor: nn.Module) -> 'Normalise | None':
        """Take over a preprocessor's settings; None where it changes nothing."""
        enabled = getattr(preprocessor, '_enable_normalize', False)
        swap = getattr(preprocessor, '_channel_conversion', False)
        if not enabled and not swap:
            return None
        mean, std = torch.zeros(3), torch.ones(3)
        if enabled:
            # A single number holds for all channels.
            mean = preprocessor.mean.flatten().cpu().expand(3)
            std = preprocessor.std.flatten().cpu().expand(3)
        return cls(mean, std, swap)

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, 3, H, W) in 0 to 255 to the network's input of the same shape."""
        return self.conv(image)
