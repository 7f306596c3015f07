"""The normalisation of a model's ``data_preprocessor`` as part of its graph."""

import torch
from torch import Tensor, nn

from mmshuffle.errors import UserError


class Normalise(nn.Module):
    """Channel order, mean and standard deviation as one 1x1 convolution.

    Every format and runtime has that, and a convolution of so few channels costs next to nothing.

    Args:
        mean, std: Of each channel in the network's order, (C,).
        swap: Whether the network wants the first three channels in the opposite order.
    """

    def __init__(self, mean: Tensor, std: Tensor, swap: bool) -> None:
        super().__init__()
        weight = torch.diag(1 / std)
        if swap:
            weight[:, :3] = weight[:, :3].flip(1)
        self.conv = nn.Conv2d(len(mean), len(mean), 1)
        with torch.no_grad():
            self.conv.weight.copy_(weight[:, :, None, None])
            self.conv.bias.copy_(-mean / std)

    @classmethod
    def of(cls, preprocessor: nn.Module, channels: int = 3) -> 'Normalise | None':
        """Take over a preprocessor's settings; None where it changes nothing.

        Raises:
            UserError: Its mean and std are those of another number of channels.
        """
        enabled = getattr(preprocessor, '_enable_normalize', False)
        swap = getattr(preprocessor, '_channel_conversion', False)
        if not enabled and not swap:
            return None
        mean, std = torch.zeros(channels), torch.ones(channels)
        if enabled:
            found = [x.flatten().cpu() for x in (preprocessor.mean, preprocessor.std)]
            for size in {len(x) for x in found} - {1, channels}:
                raise UserError(
                    f'data_preprocessor has mean and std of {size} channels, and the network takes '
                    f'{channels}: give as many numbers of each, or one'
                )
            # A single number holds for all channels.
            mean, std = (x.expand(channels) for x in found)
        return cls(mean, std, swap)

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, C, H, W) in 0 to 255 to the network's input of the same shape."""
        return self.conv(image)
