"""Modules of MMDetection with what they lack; importing this imports all of MMDetection's."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import mmdet
import torch
from mmdet.models.backbones import MobileNetV2
from mmdet.models.dense_heads import GFLHead, RPNHead, SSDHead
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.models.utils import levels_to_images
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from .ps_roi_align import PSRoIAlign


class DilatedMobileNetV2(MobileNetV2):
    """MobileNet V2 with dilation in place of its last stride, as ``output_stride=16`` elsewhere.

    The first block at stride 32 takes stride 1, and the 3x3 convolutions of the blocks behind it
    dilation 2: every second pixel of the output is the plain network's, with the same weights. The
    last 1x1 convolution is built only where it is returned.

    Args:
        out_indices: Outputs, numbered as in MMDetection: 4 is the last at stride 16 of the plain
            network (C4), 6 the last block (C5), 7 the 1x1 convolution behind it.
        **kwargs: Of MMDetection's MobileNetV2.
    """

    def __init__(self, out_indices: Sequence[int] = (4, 6), **kwargs: Any) -> None:
        super().__init__(out_indices=out_indices, **kwargs)
        first, *others = (block.depthwise_conv.conv for block in (*self.layer6, *self.layer7))
        first.stride = (1, 1)
        for conv in others:
            conv.dilation = conv.padding = (2, 2)
        if 7 not in out_indices:
            del self.conv2
            self.layers.remove('conv2')


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


class PSRoIExtractor(BaseRoIExtractor):
    """Pools RoIs from the first feature map by :class:`PSRoIAlign`.

    Args:
        roi_layer: ``dict(type='PSRoIAlign', ...)`` with its arguments but ``spatial_scale``.
        out_channels: Channels of an RoI: those of the map by the number of bins.
        featmap_strides: Stride of the map, a list of one number.
        init_cfg: As in mmengine.

    Raises:
        ValueError: Another layer, or several strides.
    """

    def __init__(
        self,
        roi_layer: dict[str, Any],
        out_channels: int,
        featmap_strides: Sequence[int],
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        kind = roi_layer.get('type')
        if kind != 'PSRoIAlign':
            raise ValueError(f"roi_layer={kind!r} of PSRoIExtractor: its type is 'PSRoIAlign'")
        if len(featmap_strides) != 1:
            raise ValueError(
                f'featmap_strides={featmap_strides} of PSRoIExtractor: give one, of the first map'
            )
        layer = {**roi_layer, 'type': PSRoIAlign}
        super().__init__(layer, out_channels, list(featmap_strides), init_cfg)

    def forward(self, feats: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Pool (R, 5) RoIs of the first of the maps to (R, out_channels, height, width)."""
        return self.roi_layers[0](feats[0], rois)


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


class DynamicGFLHead(GFLHead):
    """GFL whose assigner gets the predicted boxes and scores, as RTMDet's does.

    MMDetection's GFLHead hands its assigner the anchors alone, with which DynamicSoftLabelAssigner
    (arXiv 2212.07784, section 3.3) cannot work. The arguments are MMDetection's.
    """

    def loss_by_feat(
        self, cls_scores: Sequence[Tensor], bbox_preds: Sequence[Tensor], *args: Any, **kwargs: Any
    ) -> dict[str, list[Tensor]]:
        """Compute the losses, see MMDetection's head."""
        with torch.no_grad():
            self._predicted = iter(self._predictions(cls_scores, bbox_preds))
        return super().loss_by_feat(cls_scores, bbox_preds, *args, **kwargs)

    def _predictions(
        self, cls_scores: Sequence[Tensor], bbox_preds: Sequence[Tensor]
    ) -> list[InstanceData]:
        """What is predicted of each image at every anchor.

        Boxes (A, 4), scores (A, classes) before the sigmoid, and priors (A, 4): the centre of the
        anchor and twice its stride.
        """
        sizes = [score.shape[2:] for score in cls_scores]
        device = cls_scores[0].device
        anchors = self.prior_generator.grid_priors(sizes, device=device)
        counts = torch.tensor([len(anchor) for anchor in anchors], device=device)
        steps = torch.tensor(self.prior_generator.strides, device=device)
        stride = steps.repeat_interleave(counts, 0)
        centre = self.anchor_center(torch.cat(anchors))
        priors = torch.cat((centre, stride), 1)
        found = []
        images = zip(levels_to_images(cls_scores), levels_to_images(bbox_preds), strict=True)
        for scores, offsets in images:
            boxes = self.bbox_coder.decode(centre, self.integral(offsets) * stride.repeat(1, 2))
            found.append(InstanceData(bboxes=boxes, scores=scores, priors=priors))
        return found

    def _get_targets_single(
        self,
        flat_anchors: Tensor,
        valid_flags: Tensor,
        num_level_anchors: list[int],
        gt_instances: InstanceData,
        img_meta: dict,
        *args: Any,
        **kwargs: Any,
    ) -> tuple:
        """Compute the targets of the next image, see MMDetection's head."""
        given = self.assigner
        border = self.train_cfg['allowed_border']
        inside = anchor_inside_flags(flat_anchors, valid_flags, img_meta['img_shape'][:2], border)
        self.assigner = _Informed(given, next(self._predicted)[inside])
        known = (flat_anchors, valid_flags, num_level_anchors, gt_instances, img_meta)
        try:
            return super()._get_targets_single(*known, *args, **kwargs)
        finally:
            self.assigner = given


class _Informed(NamedTuple):
    """An assigner with the predictions of one image in the place of its anchors."""

    assigner: Any
    predictions: InstanceData

    def assign(
        self, pred_instances: InstanceData, num_level_priors: list[int], *truth: Any, **named: Any
    ) -> AssignResult:
        return self.assigner.assign(self.predictions, *truth, **named)
