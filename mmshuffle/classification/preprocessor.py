"""Normalising a batch that comes from the dataloader as uint8."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.model import ImgDataPreprocessor


@MODELS.register_module()
class BatchNormalizer(ImgDataPreprocessor):
    """``ImgDataPreprocessor`` for stacked images of one size, at a third of the time on a CPU.

    The same numbers, but computed in place: mmengine's class makes five arrays of the size of a
    batch, the last one to pad by nothing.

    Args:
        mean: Of each channel, in the network's order, however many those are; or one for all.
        std: As ``mean``.
        **kwargs: See ``mmengine.model.ImgDataPreprocessor``; padding is not supported.
    """

    def __init__(
        self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if len(mean or ()) != len(std or ()):
            message = f'mean={mean!r} and std={std!r} of BatchNormalizer: give as many of each'
            raise ValueError(message)
        if mean:
            self._enable_normalize = True
            self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), False)
            self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Move a batch to the device and normalise ``inputs``, (N, C, H, W), to float32."""
        data = self.cast_data(data)
        inputs = data['inputs']
        if self._channel_conversion:
            inputs = torch.cat((inputs[:, :3].flip(1), inputs[:, 3:]), 1)
        inputs = inputs.to(torch.float32, copy=True)
        if self._enable_normalize:
            inputs.sub_(self.mean).div_(self.std)
        data['inputs'] = inputs
        data.setdefault('data_samples', None)
        return data
