"""Position-sensitive RoI align."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PSRoIAlign(nn.Module):
    """RoIAlign in which every bin reads channels of its own (R-FCN, arXiv 1605.06409, section 2).

    Bin (i, j) of output channel c is pooled from input channel ``(c * height + i) * width + j``,
    as in Light-Head R-CNN (arXiv 1711.07264). mmcv has no such operator; its RoIAlign on all
    channels, of which a diagonal is then taken, computes every bin of every channel and so
    ``height * width`` times too much. Here the channels of a bin become images of their own, and
    each bin an RoI of one pixel on its image, so that only what is asked for is computed.

    Args:
        output_size: Bins of an RoI, one number or height and width.
        spatial_scale: Pixels of the feature map a pixel of the image.
        sampling_ratio: Samples a bin in each direction; 0 takes one a pixel of the feature map.
        pool_mode: ``'max'``, the largest sample, as the release of Light-Head R-CNN, or ``'avg'``.
        aligned: As of mmcv's RoIAlign: False is the release's, where pixel centres are at whole
            coordinates and an RoI has at least one pixel of the feature map.

    Raises:
        ValueError: Another ``pool_mode``.
    """

    def __init__(
        self,
        output_size: int | Sequence[int] = 7,
        spatial_scale: float = 1.0,
        sampling_ratio: int = 2,
        pool_mode: str = 'max',
        aligned: bool = False,
    ) -> None:
        super().__init__()
        if pool_mode not in ('max', 'avg'):
            raise ValueError(f"pool_mode={pool_mode!r} of PSRoIAlign: choose 'max' or 'avg'")
        sizes = (output_size, output_size) if isinstance(output_size, int) else output_size
        self.output_size = tuple(sizes)
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.pool_mode = pool_mode
        self.aligned = aligned

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        """Pool RoIs.

        Args:
            x: Feature maps, (N, C * height * width, H, W).
            rois: (R, 5): index of the image, x1, y1, x2, y2 in its pixels.

        Returns:
            (R, C, height, width), of the type of ``x``.
        """
        from mmcv.ops import roi_align  # loads all of mmcv's operators

        height, width = self.output_size
        bins = height * width
        # Half precision has too few digits for the corners of bins.
        maps = x if x.dtype == torch.float64 else x.float()
        # mmcv reads memory in order, whatever the strides.
        maps = maps.unflatten(1, (-1, bins)).transpose(1, 2).flatten(0, 1).contiguous()
        with torch.no_grad():
            bin_rois = self._bins(rois.to(maps.dtype))
        pooled = roi_align(maps, bin_rois, 1, 1.0, self.sampling_ratio, self.pool_mode, True)
        pooled = pooled.view(len(rois), bins, maps.shape[1]).transpose(1, 2)
        return pooled.unflatten(2, (height, width)).to(x.dtype)

    def _bins(self, rois: Tensor) -> Tensor:
        """Make an RoI of each bin, in pixels of the feature map: (R * height * width, 5)."""
        height, width = self.output_size
        boxes = rois[:, 1:] * self.spatial_scale
        start, size = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
        if not self.aligned:
            # An aligned RoIAlign, which has no least size for a bin, takes half a pixel off.
            start, size = start + 0.5, size.clamp(min=1)
        step = size / rois.new_tensor([width, height])
        count = torch.arange(height * width, device=rois.device)
        place = torch.stack((count % width, count // width), 1)  # (bins, 2), as x and y
        first = start[:, None] + place * step[:, None]
        index = rois[:, :1] * len(place) + count
        return torch.cat((index[..., None], first, first + step[:, None]), -1).flatten(0, 1)
