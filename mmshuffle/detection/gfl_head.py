"""GFL with an assignment that looks at the predictions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmdet.models.dense_heads import GFLHead
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmengine.structures import InstanceData
from torch import Tensor


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
        count = len(cls_scores[0])
        sizes = [score.shape[2:] for score in cls_scores]
        anchors = self.prior_generator.grid_priors(sizes, device=cls_scores[0].device)
        boxes, scores, priors = [], [], []
        for score, offset, (stride, _), anchor in zip(
            cls_scores, bbox_preds, self.prior_generator.strides, anchors, strict=True
        ):
            centre = self.anchor_center(anchor)
            offset = offset.permute(0, 2, 3, 1).reshape(-1, offset.shape[1])
            distance = self.integral(offset).view(count, -1, 4) * stride
            boxes.append(self.bbox_coder.decode(centre.expand(count, -1, 2), distance))
            scores.append(score.permute(0, 2, 3, 1).reshape(count, -1, self.cls_out_channels))
            priors.append(torch.cat((centre, torch.full_like(centre, stride)), 1))
        prior = torch.cat(priors)
        pairs = zip(torch.cat(boxes, 1), torch.cat(scores, 1), strict=True)
        return [InstanceData(bboxes=box, scores=score, priors=prior) for box, score in pairs]

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
