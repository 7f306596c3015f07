"""A detector as one graph of fixed shapes; a two-stage one from image to detections."""

from collections.abc import Sequence

import torch
from mmdet.models.task_modules.coders.delta_xywh_bbox_coder import delta2bbox
from torch import Tensor, nn

from mmshuffle.engine.network import input_channels
from mmshuffle.errors import UserError

from .detection_ops import nms_mask, roi_align_levels
from .normalise import Normalise


class DetectorGraph(nn.Module):
    """A detector for one image of one size, from a picture to its features.

    Args:
        detector: Of MMDetection, in evaluation mode.
        shape: Height and width of the image as the test pipeline makes it; padding to the multiple
            that the detector needs is part of the graph.
    """

    def __init__(self, detector: nn.Module, shape: Sequence[int]) -> None:
        super().__init__()
        self.detector = detector
        self.shape = tuple(shape)
        preprocessor, channels = detector.data_preprocessor, input_channels(detector)
        self.normalise = Normalise.of(preprocessor, channels) or nn.Identity()
        divisor = preprocessor.pad_size_divisor
        self.missing = [-side % divisor for side in self.shape]

    def features(self, image: Tensor) -> Sequence[Tensor]:
        """Normalise, pad and run backbone and neck."""
        image = self.normalise(image)
        if any(self.missing):
            bottom, right = self.missing
            value = float(self.detector.data_preprocessor.pad_value)
            image = nn.functional.pad(image, (0, right, 0, bottom), value=value)
        return self.detector.extract_feat(image)

    @torch.no_grad()
    def example(self) -> Sequence[Tensor]:
        """Features of a black image."""
        return self.features(torch.zeros(1, input_channels(self.detector), *self.shape))

    def clip(self, boxes: Tensor) -> Tensor:
        """Cut boxes, (..., 4), off at the border of the image."""
        height, width = self.shape
        return torch.minimum(boxes.clamp(min=0), boxes.new_tensor((width, height) * 2))

    def decode(self, coder: nn.Module, boxes: Tensor, deltas: Tensor) -> Tensor:
        """Move boxes, (N, 4), by deltas, (N, 4 k), as ``coder`` does; returns (N, k, 4)."""
        clamp = dict(add_ctr_clamp=coder.add_ctr_clamp, ctr_clamp=coder.ctr_clamp)
        # Its own clipping works in place, which makes more nodes.
        found = delta2bbox(boxes, deltas, coder.means, coder.stds, clip_border=False, **clamp)
        found = found.reshape(len(boxes), -1, 4)
        return self.clip(found) if coder.clip_border else found


class TwoStageGraph(DetectorGraph):
    """Faster R-CNN for one image of one size, post-processing included.

    It computes what MMDetection's ``predict`` does, with shapes that do not depend on the image:
    a proposal or detection that NMS drops keeps its row, with a score of 0. Anchors are constants.
    NMS of the levels of the RPN and of the classes of the box head is done group by group, where
    MMDetection moves the groups apart by an offset.

    Args:
        detector: ``FasterRCNN`` of MMDetection in evaluation mode, with an ``RPNHead``, a
            ``StandardRoIHead`` and a ``SingleRoIExtractor`` of ``RoIAlign``, with or without neck
            and shared head.
        shape: See :class:`DetectorGraph`.

    Raises:
        UserError: The detector has a part of another kind.
    """

    output_names = ('boxes', 'scores', 'labels')

    def __init__(self, detector: nn.Module, shape: Sequence[int]) -> None:
        _refuse_what_is_unknown(detector)
        super().__init__(detector, shape)
        self.rpn_cfg, self.rcnn_cfg = detector.test_cfg['rpn'], detector.test_cfg['rcnn']
        sizes = [level.shape[-2:] for level in self.example()]
        anchors = detector.rpn_head.prior_generator.grid_priors(sizes, device='cpu')
        for index, level in enumerate(anchors):
            self.register_buffer(f'anchors_{index}', level, persistent=False)
        before = self.rpn_cfg.get('nms_pre', -1)
        self.candidates = [limited(len(level), before) for level in anchors]
        most = self.rpn_cfg.get('max_per_img', -1)
        self.proposals = limited(sum(self.candidates), most)
        rows = self.proposals * detector.roi_head.bbox_head.num_classes
        self.rows = limited(rows, self.rcnn_cfg['max_per_img'])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect.

        Args:
            image: (1, C, H, W) in float32 and 0 to 255, with H and W as in ``shape``, as the test
                pipeline makes it.

        Returns:
            Boxes, (K, 4), as (x1, y1, x2, y2) in pixels of the image; scores, (K,), falling; and
            labels, (K,) int64. Rows without a detection come last: box and score 0, label -1.
        """
        features = self.features(image)
        boxes, valid = self._propose(*self.detector.rpn_head(features))
        return self._classify(features, boxes, valid)

    def _propose(self, logits: Sequence[Tensor], deltas: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Turn the outputs of the RPN into boxes, (P, 4), and whether each is one, (P,)."""
        boxes, scores = [], []
        for index, (logit, delta) in enumerate(zip(logits, deltas, strict=True)):
            anchors = self.get_buffer(f'anchors_{index}')
            score = logit[0].permute(1, 2, 0).reshape(-1).sigmoid()
            delta = delta[0].permute(1, 2, 0).reshape(-1, 4)
            if self.candidates[index] < len(anchors):
                score, best = score.topk(self.candidates[index])
                anchors, delta = anchors[best], delta[best]
            boxes.append(self.decode(self.detector.rpn_head.bbox_coder, anchors, delta)[:, 0])
            scores.append(score)
        # Every level as a group of the size of the largest.
        longest = max(self.candidates)
        box = torch.stack([_lengthen(level, longest) for level in boxes])
        score = torch.stack([_lengthen(level, longest) for level in scores])
        smallest = self.rpn_cfg.get('min_bbox_size', -1)
        if smallest >= 0:
            large = ((box[..., 2:] - box[..., :2]) > smallest).all(2)
            score = torch.where(large, score, 0.0)
        kept = nms_mask(box, score, self.rpn_cfg['nms']['iou_threshold'], 0.0)
        score, best = (score * kept).flatten().topk(self.proposals)
        return box.flatten(0, 1)[best], score > 0

    def _classify(
        self, features: Sequence[Tensor], boxes: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Turn proposals, (P, 4), into detections."""
        head = self.detector.roi_head
        extractor = head.bbox_roi_extractor
        used, layer = list(features[: extractor.num_inputs]), extractor.roi_layers[0]
        # Each box is pooled from its level (Feature Pyramid Networks, equation 1).
        size = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()
        level = (size / extractor.finest_scale + 1e-6).log2().floor()
        pooled = roi_align_levels(
            used,
            boxes,
            level.clamp(0, len(used) - 1).long(),
            [layer.spatial_scale for layer in extractor.roi_layers],
            list(layer.output_size),
            layer.sampling_ratio,
            layer.aligned,
        )
        if head.with_shared_head:
            pooled = head.shared_head(pooled)
        logits, deltas = head.bbox_head(pooled)
        classes = head.bbox_head.num_classes
        scores = logits.softmax(1)[:, :classes] * valid[:, None]
        refined = self.decode(head.bbox_head.bbox_coder, boxes, deltas).transpose(0, 1)
        refined = refined.expand(classes, -1, -1)
        scores = scores.transpose(0, 1)
        kept = nms_mask(
            refined, scores, self.rcnn_cfg['nms']['iou_threshold'], self.rcnn_cfg['score_thr']
        )
        score, best = (scores * kept).flatten().topk(self.rows)
        real = score > 0
        label = torch.where(real, best // len(boxes), -1)
        return refined.reshape(-1, 4)[best] * real[:, None], score, label


def limited(available: int, most: int) -> int:
    """How many are taken of the ``available``; all where the limit is below 1."""
    return min(most, available) if most > 0 else available


def _lengthen(x: Tensor, length: int) -> Tensor:
    """Add rows of zeros: boxes without area and score, which NMS passes over."""
    missing = length - len(x)
    return x if missing == 0 else torch.cat((x, x.new_zeros(missing, *x.shape[1:])))


def _refuse_what_is_unknown(detector: nn.Module) -> None:
    """Check that every part is of a kind whose computation the graph knows; the error names it."""
    rpn, roi = getattr(detector, 'rpn_head', None), getattr(detector, 'roi_head', None)
    if rpn is None or roi is None:
        raise UserError(
            f'{type(detector).__name__} is not a two-stage detector: export its backbone or neck'
        )
    # Each before its own parts, which one of another kind may not have.
    _require(rpn, 'RPNHead')
    _require(rpn.bbox_coder, 'DeltaXYWHBBoxCoder')
    _require(rpn.prior_generator, 'AnchorGenerator')
    _require(roi, 'StandardRoIHead')
    box_head, extractor = roi.bbox_head, roi.bbox_roi_extractor
    _require(extractor, 'SingleRoIExtractor')
    _require(extractor.roi_layers[0], 'RoIAlign')
    _require(box_head, 'BBoxHead', 'ConvFCBBoxHead', 'Shared2FCBBoxHead', 'Shared4Conv1FCBBoxHead')
    _require(box_head.bbox_coder, 'DeltaXYWHBBoxCoder')
    refuse_settings(
        (rpn.use_sigmoid_cls, 'an RPN with softmax'),
        (extractor.roi_layers[0].pool_mode == 'avg', 'RoIAlign of the maximum'),
        (not box_head.custom_cls_channels, 'scores that are no softmax'),
        (not getattr(roi, 'with_mask', False), 'a mask head'),
        *((is_plain_nms(detector.test_cfg[p]['nms']), 'another NMS') for p in ('rpn', 'rcnn')),
    )


def refuse_settings(*settings: tuple[bool, str]) -> None:
    """Refuse the first of the settings, each whether it is supported and what it is."""
    for supported, what in settings:
        if not supported:
            raise UserError(
                f'a whole detector with {what} cannot be exported: export its backbone or neck'
            )


def _require(part: nn.Module, *names: str) -> None:
    """Check the class of a part; a subclass may compute something else."""
    if type(part).__name__ not in names:
        raise UserError(
            f'a whole detector with {type(part).__name__} cannot be exported, only with '
            f'{" or ".join(names)}: export its backbone or neck'
        )


def is_plain_nms(cfg: dict) -> bool:
    """Whether it is greedy NMS, group by group; ``split_thr`` says only how MMDetection does it."""
    return cfg['type'] == 'nms' and cfg.keys() <= {'type', 'iou_threshold', 'split_thr'}
