"""The layers that read a backbone's outputs, made to read them in another order.

Only modules whose ``forward`` is known are touched: a subclass may read the outputs in a way of its
own.
"""

from collections.abc import Sequence
from typing import NamedTuple

from mmdet.models.dense_heads import RPNHead
from mmdet.models.detectors import SingleStageDetector, TwoStageDetector
from mmdet.models.necks import FPN, PAFPN
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import nn

from mmshuffle.backbones.shufflenet_v2 import ShuffleStage
from mmshuffle.classification import ImageClassifier
from mmshuffle.classification.heads import ConvHead, HiddenLayersHead, LinearHead
from mmshuffle.detection import BackboneStageHead

from .rewire import mixes_channels, restore, rewire
from .routed import build_part
from .routing import FILL, Form, Order, natural


class Joint(NamedTuple):
    """A layer that reads an output: where it hangs, and the order that it is to read."""

    owner: nn.Module
    name: str
    order: Order


def absorb(holder: nn.Module, orders: Sequence[Order], form: Form) -> bool:
    """Make what reads a backbone's outputs read them in other orders.

    Knows the heads of :class:`~mmshuffle.classification.ImageClassifier`, MMDetection's FPN and
    PAFPN, and two-stage detectors of the C4 form with a
    :class:`~mmshuffle.detection.BackboneStageHead`.

    Args:
        holder: The module that has the backbone; changed in place.
        orders: Of the backbone's outputs.
        form: See :func:`mmshuffle.deploy.shuffle_free`.

    Returns:
        Whether all readers are known; where not, nothing is changed.
    """
    if all(order == natural(len(order)) for order in orders):
        return True
    for rule in (_of_classifier, _of_neck):
        joints = rule(holder, orders)
        if joints is not None:
            return _rewire_all(joints)
    return _absorb_c4(holder, orders, form)


def _rewire_all(joints: Sequence[Joint]) -> bool:
    """Rewire all layers, or none if one is of another kind."""
    if not all(mixes_channels(getattr(joint.owner, joint.name)) for joint in joints):
        return False
    for owner, name, order in joints:
        setattr(owner, name, rewire(getattr(owner, name), order))
    return True


def _of_classifier(holder: nn.Module, orders: Sequence[Order]) -> list[Joint] | None:
    """List the layer behind the pooling, which reads the last output."""
    if type(holder) is not ImageClassifier:
        return None
    head = holder.head
    if type(head) is HiddenLayersHead and len(head.hidden):
        return [Joint(head.hidden, '0', orders[-1])]
    if type(head) in (LinearHead, ConvHead, HiddenLayersHead):
        return [Joint(head, 'fc', orders[-1])]
    return None


def _of_neck(holder: nn.Module, orders: Sequence[Order]) -> list[Joint] | None:
    """List the lateral convolutions, and the one behind the last output if it reads that."""
    neck = _neck(holder)
    if type(neck) not in (FPN, PAFPN):
        return None
    readers = list(zip(neck.lateral_convs, orders[neck.start_level :]))
    if neck.add_extra_convs == 'on_input':
        extra = neck.fpn_convs[len(readers) : len(readers) + 1]
        readers += [(conv, orders[neck.backbone_end_level - 1]) for conv in extra]
    if any(conv.order[0] != 'conv' for conv, _ in readers):
        return None
    return [Joint(conv, 'conv', order) for conv, order in readers]


def _neck(holder: nn.Module) -> nn.Module | None:
    """The neck that alone reads the outputs of the backbone of ``holder``, if there is one."""
    children = dict(holder.named_children())
    if type(holder) is nn.Sequential and len(children) == 2:
        return holder[1]
    extract = getattr(type(holder), 'extract_feat', None)
    known = extract in (SingleStageDetector.extract_feat, TwoStageDetector.extract_feat)
    return children.get('neck') if known else None


def _absorb_c4(holder: nn.Module, orders: Sequence[Order], form: Form) -> bool:
    """Absorb one output's order in the RPN, the shared head's stage, and the layers behind that."""
    if len(orders) != 1 or FILL in orders[0] or not _is_c4(holder):
        return False
    (order,) = orders
    rpn, roi = holder.rpn_head.rpn_conv, holder.roi_head
    joint = Joint(holder.rpn_head, 'rpn_conv', order)
    if isinstance(rpn, nn.Sequential):
        joint = Joint(rpn[0], 'conv', order)
    if not _rewire_all([joint]):
        return False
    stage = build_part(roi.shared_head.stage, order, form)
    roi.shared_head.stage = stage
    fcs = [Joint(roi.bbox_head, name, stage.order) for name in ('fc_cls', 'fc_reg')]
    if not (type(roi.bbox_head) is BBoxHead and roi.bbox_head.with_avg_pool and _rewire_all(fcs)):
        roi.shared_head.stage = nn.Sequential(stage, restore(stage.order))
    return True


def _is_c4(holder: nn.Module) -> bool:
    """Whether only the RPN and, RoI by RoI, a shared head read the backbone's output."""
    if getattr(type(holder), 'extract_feat', None) is not TwoStageDetector.extract_feat:
        return False
    rpn, roi = getattr(holder, 'rpn_head', None), getattr(holder, 'roi_head', None)
    return (
        not holder.with_neck
        and type(rpn) is RPNHead
        and type(roi) is StandardRoIHead
        and not roi.with_mask
        and type(roi.bbox_roi_extractor) is SingleRoIExtractor
        and type(getattr(roi, 'shared_head', None)) is BackboneStageHead
        and isinstance(roi.shared_head.stage, ShuffleStage)
    )
