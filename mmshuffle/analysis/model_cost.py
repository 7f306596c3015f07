"""The cost of a backbone, a classifier or a detector, part by part."""

import contextlib
import functools
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmshuffle.engine.network import build_model, input_channels, load_model_config
from mmshuffle.errors import UserError, one_line

from .complexity import CONVENTION, Cost, count_layers

# Parts that are not named as the attribute that holds them; a backbone has a part for each stage.
PARTS = {'rpn_head': 'RPN', 'roi_head': 'RoI head', 'bbox_head': 'head'}


@dataclass(frozen=True)
class ModelCost:
    """Cost of a model on one image."""

    shape: tuple[int, int]  # height and width of the image
    parts: dict[str, Cost]  # cost of each part, in the order of the model
    proposals: int | None = None  # RoIs that the RoI head was counted for; None where there is none
    # Convolutions and fully connected layers that did not run, such as a mask head: only their
    # parameters are counted.
    idle: tuple[str, ...] = ()

    @property
    def total(self) -> Cost:
        """Cost of the whole model."""
        return sum(self.parts.values(), Cost())

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data, for JSON."""
        return {**asdict(self), 'total': asdict(self.total), 'convention': CONVENTION}


def count_model(
    model: nn.Module, shape: tuple[int, int], proposals: int | None = None
) -> ModelCost:
    """Count a backbone, a classifier, or a one-stage or two-stage detector.

    Args:
        model: Model on the meta device, in evaluation mode; see
            :func:`mmshuffle.engine.network.build_model`.
        shape: Height and width of the image as the network gets it, padding included.
        proposals: RoIs of a two-stage detector; those its ``test_cfg`` keeps where None.

    Raises:
        UserError: The model cannot run on an image of this shape, or its kind is not known.
    """
    two_stage = hasattr(model, 'roi_head')
    if two_stage and proposals is None:
        proposals = model.test_cfg['rpn']['max_per_img']
    image = torch.empty(1, input_channels(model), *shape, device='meta')
    try:
        with contextlib.ExitStack() as stack:
            for norm in (m for m in model.modules() if isinstance(m, _BatchNorm)):
                norm.forward = lambda x: x  # not counted, and slow on the meta device
                stack.callback(delattr, norm, 'forward')
            counts = stack.enter_context(count_layers(model))
            _run(model, image, proposals)
    except Exception as error:  # the model may be anyone's
        raise UserError(
            f'{type(model).__name__} cannot be counted at {shape[0]}x{shape[1]}: '
            f'{one_line(error)}; give a larger --shape, or a backbone, classifier or Faster R-CNN'
        ) from error
    parts: dict[str, Cost] = {}
    sizes = [(name, Cost(parameters=p.numel())) for name, p in model.named_parameters()]
    for name, cost in (*sizes, *counts.layers.items()):
        part = part_of(name, hasattr(model, 'backbone'))
        parts[part] = parts.get(part, Cost()) + cost
    if counts.outside:
        parts['outside layers'] = Cost(multiply_adds=counts.outside)
    return ModelCost(tuple(shape), parts, proposals if two_stage else None, tuple(counts.idle))


def part_of(name: str, has_backbone: bool) -> str:
    """Name the part that a layer of a backbone, or of a model that has one, belongs to."""
    first, _, rest = name.partition('.')
    if has_backbone and first != 'backbone':
        return PARTS.get(first, first)
    prefix = 'backbone ' if has_backbone else ''
    first, *others = (rest if has_backbone else name).split('.')
    return f'{prefix}stage {others[0]}' if first == 'stages' else prefix + first


def _run(model: nn.Module, image: Tensor, proposals: int | None) -> None:
    """Run every part once; detectors without what is not a network, such as NMS and RoIAlign."""
    if not hasattr(model, 'backbone'):
        model(image)
        return
    features = model.backbone(image)
    if getattr(model, 'neck', None) is not None:
        features = model.neck(features)
    for name in ('head', 'rpn_head', 'bbox_head'):
        if getattr(model, name, None) is not None:
            getattr(model, name)(features)
    if hasattr(model, 'roi_head'):
        _run_roi_head(model.roi_head, proposals)


def _run_roi_head(roi_head: nn.Module, proposals: int) -> None:
    """Run the shared head and the box heads, of which a cascade has several, on pooled features."""
    extractors, heads = roi_head.bbox_roi_extractor, roi_head.bbox_head
    if not isinstance(heads, nn.ModuleList):
        extractors, heads = [extractors], [heads]
    for extractor, head in zip(extractors, heads, strict=True):
        size = extractor.roi_layers[0].output_size
        pooled = torch.empty(proposals, extractor.out_channels, *size, device='meta')
        head(roi_head.shared_head(pooled) if roi_head.with_shared_head else pooled)


@functools.cache
def count_config(config: str, shape: tuple[int, int], proposals: int | None = None) -> ModelCost:
    """Count the model of a config, by its name or path, once a process; see :func:`count_model`."""
    return count_model(_build(config), shape, proposals)


@functools.cache
def _build(config: str) -> nn.Module:
    return build_model(load_model_config(config, arguments={}), 'meta')
