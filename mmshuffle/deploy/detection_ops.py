"""Two operators of a detector whose inner sizes depend on the image, though their outputs' do not.

PyTorch's exporter follows tensors whose shapes are known. NMS and the pooling from several levels
would break that, so each is one operator here: computed by mmcv in PyTorch, and written as standard
ONNX nodes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# Boxes are (x1, y1, x2, y2) in pixels everywhere.


@torch.library.custom_op('mmshuffle::nms_mask', mutates_args=())
def nms_mask(
    boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float, most: int = -1
) -> Tensor:
    """Non-maximum suppression in each of G groups (levels or classes) on its own.

    Args:
        boxes: (G, N, 4).
        scores: (G, N).
        iou_threshold: A box is dropped if a box of higher score overlaps it by more.
        score_threshold: Boxes without a higher score are dropped, and suppress none.
        most: How many are kept of a group; all where -1.

    Returns:
        Which boxes are kept: 1 or 0 in float32, (G, N).
    """
    from mmcv.ops import nms

    kept = torch.zeros_like(scores)
    for group in range(len(boxes)):
        candidates = (scores[group] > score_threshold).nonzero()[:, 0]
        if len(candidates):
            _, order = nms(
                boxes[group, candidates], scores[group, candidates], iou_threshold, max_num=most
            )
            kept[group, candidates[order]] = 1
    return kept


nms_mask.register_fake(lambda boxes, scores, *settings: torch.empty_like(scores))


@torch.library.custom_op('mmshuffle::roi_align_levels', mutates_args=())
def roi_align_levels(
    features: Sequence[Tensor],
    boxes: Tensor,
    levels: Tensor,
    scales: Sequence[float],
    size: Sequence[int],
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Average RoIAlign (Mask R-CNN, section 3) of each box on the level that is its own.

    Args:
        features: One image's feature maps, (1, C, H_l, W_l).
        boxes: (R, 4).
        levels: Index into ``features`` for each box, (R,), int64.
        scales: Pixels of a feature map over pixels of the image, for each level.
        size: Height and width of the output.
        sampling_ratio: Samples of a bin along each axis; as many as it has pixels where 0.
        aligned: Whether pixel centres are at half coordinates.

    Returns:
        (R, C, *size).
    """
    from mmcv.ops import roi_align

    output = features[0].new_empty(len(boxes), features[0].shape[1], *size)
    rois = torch.cat((boxes.new_zeros(len(boxes), 1), boxes), 1)
    for index, (level, scale) in enumerate(zip(features, scales, strict=True)):
        mine = levels == index
        if mine.any():
            # mmcv reads any other memory layout as if it were this one.
            level = level.contiguous()
            output[mine] = roi_align(
                level, rois[mine], tuple(size), scale, sampling_ratio, 'avg', aligned
            )
    return output


@roi_align_levels.register_fake
def _(features: Sequence[Tensor], boxes: Tensor, levels: Any, scales: Any, size: Any, *_: Any):
    return features[0].new_empty(len(boxes), features[0].shape[1], *size)


def onnx_translations() -> dict[Callable, Callable]:
    """What PyTorch's exporter writes for the two operators."""
    return {
        torch.ops.mmshuffle.nms_mask.default: _onnx_nms_mask,
        torch.ops.mmshuffle.roi_align_levels.default: _onnx_roi_align_levels,
    }


def _onnx_nms_mask(
    boxes: Any, scores: Any, iou_threshold: float, score_threshold: float, most: int = -1
) -> Any:
    from onnxscript import opset18 as op

    # The operator's batch is our group: its classes would share one set of boxes.
    chosen = op.NonMaxSuppression(
        boxes,
        op.Unsqueeze(scores, op.Constant(value_ints=[1])),
        op.Constant(value_ints=[most])
        if most > 0
        else op.Gather(op.Shape(scores), op.Constant(value_ints=[1])),
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[score_threshold]),
    )
    where = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
    ones = op.Expand(op.Constant(value_float=1.0), op.Shape(where, start=0, end=1))
    return op.ScatterND(op.Sub(scores, scores), where, ones)


def _onnx_roi_align_levels(
    features: Sequence[Any],
    boxes: Any,
    levels: Any,
    scales: Sequence[float],
    size: Sequence[int],
    sampling_ratio: int,
    aligned: bool,
) -> Any:
    from onnxscript import opset18 as op

    settings = dict(
        coordinate_transformation_mode='half_pixel' if aligned else 'output_half_pixel',
        mode='avg',
        sampling_ratio=sampling_ratio,
        **dict(zip(('output_height', 'output_width'), size)),
    )
    pooled, places = [], []
    for index, (level, scale) in enumerate(zip(features, scales, strict=True)):
        mine = op.Equal(levels, op.Constant(value_int=index))
        place = op.Reshape(op.NonZero(mine), op.Constant(value_ints=[-1]))
        batch = op.Mul(place, op.Constant(value_int=0))
        mine = op.Gather(boxes, place, axis=0)
        places.append(place)
        pooled.append(op.RoiAlign(level, mine, batch, spatial_scale=scale, **settings))
    if len(pooled) == 1:
        return pooled[0]
    # Sorting where the rows went says where each row comes from.
    place = op.Concat(*places, axis=0)
    _, source = op.TopK(place, op.Shape(place), largest=0)
    return op.Gather(op.Concat(*pooled, axis=0), source, axis=0)
