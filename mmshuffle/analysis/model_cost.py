"""The cost of a backbone, a classifier or a detector, part by part."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmshuffle.engine.config import read_config, register_config_imports
from mmshuffle.engine.shipped import metafiles_read_once
from mmshuffle.errors import UserError, build_failure

from .complexity import CONVENTION, Cost, count_layers

# Parts of classifiers and detectors, by the attribute that holds them; a backbone has a part for
# each stage.
PARTS = {
    'neck': 'neck',
    'rpn_head': 'RPN',
    'roi_head': 'RoI head',
    'bbox_head': 'head',
    'head': 'head',
}


@dataclass(frozen=True)
class ModelCost:
    """Cost of a model on one image.

    Attributes:
        shape: Height and width of the image.
        parts: Cost of each part, in the order of the model.
        proposals: RoIs that the RoI head was counted for; None where there is none.
        idle: Convolutions and fully connected layers that did not run, such as a mask head: only
            their parameters are counted.
    """

    shape: tuple[int, int]
    parts: dict[str, Cost]
    proposals: int | None = None
    idle: tuple[str, ...] = ()

    @property
    def total(self) -> Cost:
        """Cost of the whole model."""
        return sum(self.parts.values(), Cost())

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data, for JSON."""
        return dict(
            shape=list(self.shape),
            proposals=self.proposals,
            parts={name: asdict(cost) for name, cost in self.parts.items()},
            total=asdict(self.total),
            idle=list(self.idle),
            convention=CONVENTION,
        )


def build_on_meta(cfg: dict) -> nn.Module:
    """Build a model without memory for its parameters.

    Args:
        cfg: Config of anything in MMDetection's registry of models.

    Raises:
        UserError: The type is not registered or its arguments are wrong.
    """
    try:
        with torch.device('meta'):
            model = MODELS.build(cfg)
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        raise UserError(
            f'model {cfg.get("type")} cannot be built: {build_failure(error)}'
        ) from None
    model.eval()  # apart, because MMDetection's MobileNetV2 returns None
    return model


def count_model(
    model: nn.Module, shape: tuple[int, int], proposals: int | None = None
) -> ModelCost:
    """Count a backbone, a classifier, or a one-stage or two-stage detector.

    Args:
        model: Model on the meta device, in evaluation mode, see :func:`build_on_meta`.
        shape: Height and width of the image as the network gets it, padding included.
        proposals: RoIs of a two-stage detector; those its ``test_cfg`` keeps where None.

    Raises:
        UserError: The model cannot run on an image of this shape, or its kind is not known.
    """
    two_stage = hasattr(model, 'roi_head')
    if two_stage and proposals is None:
        proposals = model.test_cfg['rpn']['max_per_img']
    image = torch.empty(1, 3, *shape, device='meta')
    try:
        with _norms_passed_over(model), count_layers(model) as counts:
            _run(model, image, proposals)
    except Exception as error:  # the model may be anyone's
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise UserError(
            f'{type(model).__name__} cannot be counted at {shape[0]}x{shape[1]}: {reason}; '
            'give a larger --shape, or a backbone, a classifier or a Faster R-CNN'
        ) from error
    parts: dict[str, Cost] = {}
    for name, parameter in model.named_parameters():
        part = part_of(name, hasattr(model, 'backbone'))
        parts[part] = parts.get(part, Cost()) + Cost(parameters=parameter.numel())
    for name, cost in counts.layers.items():
        parts[part_of(name, hasattr(model, 'backbone'))] += cost
    if counts.outside:
        parts['outside layers'] = Cost(multiply_adds=counts.outside)
    return ModelCost(
        shape=tuple(shape),
        parts=parts,
        proposals=proposals if two_stage else None,
        idle=tuple(counts.idle),
    )


def part_of(name: str, has_backbone: bool) -> str:
    """Name the part that a layer or parameter belongs to.

    Args:
        name: Its name in the model.
        has_backbone: Whether the model is a classifier or detector, as opposed to a backbone.
    """
    first, _, rest = name.partition('.')
    if has_backbone and first != 'backbone':
        return PARTS.get(first, first)
    prefix = 'backbone ' if has_backbone else ''
    first, *others = (rest if has_backbone else name).split('.')
    return f'{prefix}stage {others[0]}' if first == 'stages' else prefix + first


@contextlib.contextmanager
def _norms_passed_over(model: nn.Module) -> Iterator[None]:
    """Let BatchNorms pass their input on: they are not counted, and slow on the meta device."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.forward = lambda x: x
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


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


def count_cfg(cfg: Config, shape: tuple[int, int], proposals: int | None = None) -> ModelCost:
    """Count the model of a config; see :func:`count_model`.

    Raises:
        UserError: The config has no model, or its model cannot be built or counted.
    """
    return count_model(_build(cfg), shape, proposals)


@functools.cache
def count_config(path: str, shape: tuple[int, int], proposals: int | None = None) -> ModelCost:
    """Count the model of a config file, once a process for each set of arguments.

    Raises:
        UserError: See :func:`count_cfg`.
    """
    return count_model(_build_file(path), shape, proposals)


@functools.cache
def _build_file(path: str) -> nn.Module:
    with metafiles_read_once():
        return _build(read_config(path))


def _build(cfg: Config) -> nn.Module:
    if 'model' not in cfg:
        raise UserError(f'config {cfg.filename} has no model: give the config of a whole model')
    register_config_imports(cfg)
    return build_on_meta(cfg.model)
