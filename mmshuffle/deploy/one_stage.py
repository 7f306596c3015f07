"""A one-stage detector as a graph: up to what its head puts out, or with decoding and NMS."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads import GFLHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from torch import Tensor, nn

from mmshuffle.errors import UserError

from .detection_ops import nms_mask
from .detector_graph import DetectorGraph, TwoStageGraph, is_plain_nms, limited, refuse_settings

# What MMDetection's heads predict with; one with a method of its own may compute something else.
PREDICTIONS = ('predict', 'predict_by_feat', '_predict_by_feat_single', '_bbox_post_process')


class RawGraph(DetectorGraph):
    """A one-stage detector up to what its head puts out, level by level.

    Outputs are the class scores of all levels, (1, A C, H_l, W_l), their boxes, and, where the
    head has them (centerness of FCOS and ATSS), their score factors.

    Args:
        detector: ``SingleStageDetector`` of MMDetection in evaluation mode, whose head predicts as
            ``BaseDenseHead`` or ``GFLHead`` does: SSD, RetinaNet, ATSS, FCOS, GFL, RTMDet.
        shape: Height and width of the image.

    Attributes:
        facts: What decoding needs to know, as plain data, see :mod:`mmshuffle.deploy.board`.
        output_names: ``cls0``, ..., ``box0``, ..., ``factor0``, ...
        rows: Most detections of an image.

    Raises:
        UserError: The detector is of another kind.
    """

    def __init__(self, detector: nn.Module, shape: Sequence[int]) -> None:
        refuse_unknown_head(detector)
        super().__init__(detector, shape)
        with torch.no_grad():
            parts = detector.bbox_head(self.example())
        levels = range(len(parts[0]))
        kinds = ('cls', 'box', 'factor')[: len(parts)]
        self.output_names = tuple(f'{kind}{i}' for kind in kinds for i in levels)
        self.facts = head_facts(detector.bbox_head, parts)
        before = self.facts['nms_pre']
        self.candidates = [limited(score[0].numel(), before) for score in parts[0]]
        self.rows = limited(sum(self.candidates), self.facts['max_per_img'])

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map an image, (1, C, H, W) in float32 and 0 to 255, to the outputs of the head."""
        parts = self.detector.bbox_head(self.features(image))
        return tuple(level for part in parts for level in part)


class OneStageGraph(RawGraph):
    """The whole detector; it computes what MMDetection's ``predict`` does.

    Shapes do not depend on the image: what the score threshold or NMS drops has a score of 0.
    Classes are moved apart for NMS by an offset, as MMDetection does.
    """

    def __init__(self, detector: nn.Module, shape: Sequence[int]) -> None:
        super().__init__(detector, shape)
        self.output_names = TwoStageGraph.output_names
        sizes = [level['size'] for level in self.facts['levels']]
        generator = detector.bbox_head.prior_generator
        for index, level in enumerate(generator.grid_priors(sizes, device='cpu')):
            self.register_buffer(f'priors_{index}', level, persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect; image and results are those of :class:`TwoStageGraph`."""
        parts = list(zip(*self.detector.bbox_head(self.features(image)), strict=True))
        levels = [self._level(index, *level) for index, level in enumerate(parts)]
        box, score, label = (torch.cat(part) for part in zip(*levels, strict=True))
        smallest = self.facts['min_size']
        if smallest >= 0:
            large = ((box[:, 2:] - box[:, :2]) > smallest).all(1)
            score = torch.where(large, score, 0.0)
        real = score > 0
        extent = (box * real[:, None]).flatten().amax(0) + 1
        apart = box + (label * extent)[:, None]
        kept = nms_mask(apart[None], score[None], self.facts['iou'], 0.0, self.rows)[0]
        score, best = (score * kept).topk(self.rows)
        real = score > 0
        return box[best] * real[:, None], score, torch.where(real, label[best], -1)

    def _level(
        self, index: int, cls: Tensor, raw: Tensor, factor: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best candidates of a level: boxes, (K, 4), scores, (K,), and labels, (K,)."""
        head = self.detector.bbox_head
        cls = cls[0].permute(1, 2, 0).reshape(-1, head.cls_out_channels)
        scores = cls.sigmoid() if head.use_sigmoid_cls else cls.softmax(1)[:, :-1]
        classes = scores.shape[1]
        scores = torch.where(scores > self.facts['score_thr'], scores, 0.0).flatten()
        score, best = scores.topk(min(self.candidates[index], len(scores)))
        place, label = best // classes, best % classes
        if factor is not None:
            score = score * factor[0].permute(1, 2, 0).flatten()[place].sigmoid()
        width = raw.shape[1] // len(self.facts['levels'][index]['priors'])
        raw = raw[0].permute(1, 2, 0).reshape(-1, width)[place]
        prior = self.get_buffer(f'priors_{index}')[place]
        kind = self.facts['box']
        if kind['type'] == 'delta':
            return self.decode(head.bbox_coder, prior, raw)[:, 0], score, label
        if kind['bins']:
            raw = head.integral(raw) * self.facts['levels'][index]['stride'][0]
        point = (prior[:, :2] + prior[:, -2:]) / 2
        box = torch.cat((point - raw[:, :2], point + raw[:, 2:]), 1)
        return self.clip(box) if head.bbox_coder.clip_border else box, score, label


def head_facts(head: nn.Module, parts: Sequence[Sequence[Tensor]]) -> dict[str, Any]:
    """What decoding needs to know of a head with outputs of the sizes of ``parts``, as plain data.

    Raises:
        UserError: Its priors are no regular grid.
    """
    sizes = [tuple(score.shape[-2:]) for score in parts[0]]
    generator, cfg, coder = head.prior_generator, head.test_cfg, head.bbox_coder
    levels, grids = [], generator.grid_priors(sizes, device='cpu')
    for size, stride, priors in zip(sizes, generator.strides, grids, strict=True):
        x, y = (torch.arange(n) * step for n, step in zip(size[::-1], stride))
        shift = torch.cartesian_prod(y, x).flip(1)
        priors = priors.reshape(size[0] * size[1], -1, priors.shape[1])
        shift = shift.repeat(1, priors.shape[2] // 2)[:, None]
        if not torch.allclose(priors, priors[:1] + shift, atol=1e-3):
            raise UserError('priors that are no regular grid cannot be exported: export the neck')
        # A point is a box without a size.
        corners = torch.cat((priors[0, :, :2], priors[0, :, -2:]), 1).tolist()
        levels.append(dict(size=size, stride=stride, priors=corners))
    if type(coder).__name__ == 'DeltaXYWHBBoxCoder':
        clamp = coder.ctr_clamp if coder.add_ctr_clamp else None
        box = dict(type='delta', means=coder.means, stds=coder.stds, centre_clamp=clamp)
    else:
        box = dict(type='distance', bins=head.reg_max + 1 if hasattr(head, 'integral') else 0)
    return dict(
        levels=levels,
        classes=head.cls_out_channels,
        scores='sigmoid' if head.use_sigmoid_cls else 'softmax',
        box=box | dict(clip=bool(coder.clip_border)),
        score_thr=cfg.get('score_thr', 0),
        nms_pre=cfg.get('nms_pre', -1),
        min_size=cfg.get('min_bbox_size', -1),
        iou=cfg['nms']['iou_threshold'],
        max_per_img=cfg.get('max_per_img', -1),
    )


def refuse_unknown_head(detector: nn.Module) -> None:
    """Check that decoding is of a kind that the graph knows; the error names what is not."""
    head = getattr(detector, 'bbox_head', None)
    if not isinstance(head, BaseDenseHead):
        raise UserError(
            f'{type(detector).__name__} is no one-stage detector: export its backbone or neck'
        )
    coder, cfg = type(getattr(head, 'bbox_coder', None)).__name__, head.test_cfg or {}
    known = GFLHead if isinstance(head, GFLHead) else BaseDenseHead
    for name in PREDICTIONS:
        if getattr(type(head), name) is not getattr(known, name):
            raise UserError(
                f'a whole detector with {type(head).__name__} cannot be exported, whose '
                f'{name} is its own: export its backbone or neck'
            )
    custom = getattr(getattr(head, 'loss_cls', None), 'custom_cls_channels', False)
    refuse_settings(
        (coder in ('DeltaXYWHBBoxCoder', 'DistancePointBBoxCoder'), coder),
        (not custom, 'scores that are neither sigmoid nor softmax'),
        (is_plain_nms(cfg.get('nms') or dict(type='none')), 'another NMS'),
    )
