"""The layers that read a backbone's outputs, made to read them in another order.

Only modules whose ``forward`` is known are touched: a subclass may read the outputs in a way of its
own.
"""

from collections.abc import Sequence

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

from .forms import ShuffleForm
from .rewire import mixes_channels, restore, rewire
from .routed import build_part
from .routing import FILL, Order, natural

HEADS = (LinearHead, ConvHead, HiddenLayersHead)


# A layer that reads an output: where it hangs, its name there, and the order that it is to read.
Joint = tuple[nn.Module, str, Order]


def absorb(holder: nn.Module, orders: Sequence[Order], form: ShuffleForm) -> bool:
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
    if len(orders) == 1 and FILL not in orders[0] and _is_c4(holder):
        return _absorb_c4(holder, orders[0], form)
    joints = _of_neck(holder, orders)
    if type(holder) is ImageClassifier and type(holder.head) in HEADS:
        hidden = getattr(holder.head, 'hidden', ())
        joints = [(hidden, '0', orders[-1]) if len(hidden) else (holder.head, 'fc', orders[-1])]
    return _rewire_all(joints)


def _rewire_all(joints: Sequence[Joint]) -> bool:
    """Rewire all layers, or none if one is of another kind or there are none."""
    if not joints or not all(mixes_channels(getattr(owner, name)) for owner, name, _ in joints):
        return False
    for owner, name, order in joints:
        setattr(owner, name, rewire(getattr(owner, name), order))
    return True


def _of_neck(holder: nn.Module, orders: Sequence[Order]) -> list[Joint]:
    """List the lateral convolutions, and the one behind the last output if it reads that.

    There are none unless the neck alone reads the outputs.
    """
    neck, extract = None, getattr(type(holder), 'extract_feat', None)
    if type(holder) is nn.Sequential and len(holder) == 2:
        neck = holder[1]
    elif extract in (SingleStageDetector.extract_feat, TwoStageDetector.extract_feat):
        neck = getattr(holder, 'neck', None)
    if type(neck) not in (FPN, PAFPN):
        return []
    readers = list(zip(neck.lateral_convs, orders[neck.start_level :]))
    if neck.add_extra_convs == 'on_input':
        extra = neck.fpn_convs[len(readers) : len(readers) + 1]
        readers += [(conv, orders[neck.backbone_end_level - 1]) for conv in extra]
    if any(conv.order[0] != 'conv' for conv, _ in readers):
        return []
    return [(conv, 'conv', order) for conv, order in readers]


def _absorb_c4(holder: nn.Module, order: Order, form: ShuffleForm) -> bool:
    """Absorb the output's order in the RPN, the shared head's stage, and the layers behind that."""
    rpn, head, box = holder.rpn_head, holder.roi_head.shared_head, holder.roi_head.bbox_head
    several = isinstance(rpn.rpn_conv, nn.Sequential)
    joint = (rpn.rpn_conv[0], 'conv', order) if several else (rpn, 'rpn_conv', order)
    if not _rewire_all([joint]):
        return False
    stage = build_part(head.stage, order, form)
    fcs = [(box, name, stage.order) for name in ('fc_cls', 'fc_reg')]
    if not (type(box) is BBoxHead and box.with_avg_pool and _rewire_all(fcs)):
        stage = nn.Sequential(stage, restore(stage.order))
    head.stage = stage
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
