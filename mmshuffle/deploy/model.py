"""From a config and a checkpoint to the part of a model that is to be exported."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from torch import Tensor, nn

from mmshuffle.checks.classifier import is_classifier_config
from mmshuffle.engine.config import register_config_imports
from mmshuffle.engine.norm_statistics import estimate_statistics
from mmshuffle.errors import UserError, build_failure
from mmshuffle.weights import load_pretrained

from .detections import detection_difference, pad_detections, predict
from .detector_graph import TwoStageGraph
from .normalise import Normalise

PARTS = ('backbone', 'neck', 'classifier', 'detector')


@dataclass(frozen=True)
class Part:
    """Part of a model, with what :func:`mmshuffle.deploy.export` needs to write and check it.

    Attributes:
        module: What is exported.
        input: What it takes, in words.
        measure: How a difference of its outputs is measured, in words.
        options: Arguments of ``export``.
    """

    module: nn.Module
    input: str
    measure: str
    options: dict[str, Any]


def build_model(
    cfg: Config,
    checkpoint: str | None,
    part: str | None = None,
    fill: Callable[[nn.Module], None] | None = None,
) -> nn.Module:
    """Build the model of a config and fill it.

    Args:
        cfg: Config of a classifier or detector.
        checkpoint: Weights, see :func:`mmshuffle.weights.load_pretrained`. Where None, they are
            random, with BatchNorm statistics and class layers that keep activations and scores at
            the size of trained ones: with initial weights alone they fade to nothing.
        part: One of :data:`PARTS`, the whole model where None; of a backbone, no more is needed of
            the checkpoint.
        fill: Gives the model its random weights, in place of the way above.

    Raises:
        UserError: The config has no model, it cannot be built, or the weights do not fit.
    """
    default_part(cfg)  # refuses a config without model
    register_config_imports(cfg)
    settings = ConfigDict(_without_pretrained(cfg.model.to_dict()))
    try:
        model = MODELS.build(settings)
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        reason = build_failure(error)
        raise UserError(f'the model of {cfg.filename} cannot be built: {reason}') from None
    if checkpoint is not None:
        load_pretrained(model.backbone if part == 'backbone' else model, checkpoint)
    else:
        (fill or _fill_at_random)(model)
    model.eval()
    return model


@torch.no_grad()
def _fill_at_random(model: nn.Module) -> None:
    """Draw initial weights, the same each time, and scale them as :func:`build_model` says."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # mmengine tells of every parameter. Its loggers remember what logging.disable allows.
        logger = MMLogger.get_current_instance()
        level = logger.level
        logger.setLevel(logging.WARNING)
        try:
            model.init_weights()
        finally:
            logger.setLevel(level)
        images = torch.randn(2, 3, 128, 128)
    # Past the backbone's own `train`, which leaves frozen stages in evaluation mode.
    nn.Module.train(model.backbone)
    estimate_statistics(model.backbone, iter([(images,)]))
    model.eval()
    if hasattr(model, 'roi_head'):
        # Class scores that all but agree would be ordered by rounding.
        for name, layer in model.named_modules():
            if name.endswith(('rpn_cls', 'fc_cls')):
                _spread_once(layer)
        predict(model, drawn_picture((256, 256))[0])


def _spread_once(layer: nn.Module) -> None:
    """Scale a layer, at its next call, so that its outputs have a standard deviation of 2."""

    def scale(layer: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        handle.remove()
        factor = 2 / output.std()
        layer.weight.mul_(factor)
        return output * factor

    handle = layer.register_forward_hook(scale)


def _without_pretrained(settings: Any) -> Any:
    """Drop initial weights that would be fetched only to be overwritten."""
    if isinstance(settings, (list, tuple)):
        return type(settings)(map(_without_pretrained, settings))
    if not isinstance(settings, dict):
        return settings
    return {
        key: _without_pretrained(value)
        for key, value in settings.items()
        if not (key == 'init_cfg' and 'checkpoint' in str(value))
    }


def default_part(cfg: Config) -> str:
    """Name the whole of a config's model: detector or classifier.

    Raises:
        UserError: The config has no model.
    """
    if 'model' not in cfg:
        raise UserError(f'config {cfg.filename} has no model: give the config of a whole model')
    return 'classifier' if is_classifier_config(cfg) else 'detector'


def cut(
    model: nn.Module,
    part: str,
    shape: Sequence[int],
    rewrite: Callable[[nn.Module], nn.Module],
    normalise: bool | None = None,
    picture: Tensor | None = None,
) -> Part:
    """Cut ``part`` out of a model and rewrite it.

    Args:
        model: Classifier or detector in evaluation mode.
        part: One of :data:`PARTS`.
        shape: Height and width of the image. The detector's is the one that the test pipeline
            makes; backbone and neck get it padded.
        rewrite: Changes the form of a module, not its function.
        normalise: Whether the graph takes images as they are loaded, in 0 to 255, and normalises
            them. Where None, classifier and detector do, because they take pictures; backbone and
            neck do not.
        picture: Image to check with, (1, 3, H, W) in 0 to 255. Where None, it is a drawn one, or
            random numbers for a part that takes normalised images.

    Raises:
        UserError: The model has no such part, or a detector is to get normalised images.
    """
    whole = part in ('classifier', 'detector')
    normalise = whole if normalise is None else normalise
    words = 'normalised image'
    if normalise:
        order = 'RGB' if getattr(model.data_preprocessor, 'rgb_to_bgr', False) else 'BGR'
        words = f'{order} image in 0 to 255'
    if part == 'detector':
        if not normalise:
            raise UserError('a whole detector takes images in 0 to 255: leave --no-normalise out')
        graph = TwoStageGraph(rewrite(model), shape)
        options = dict(
            images=drawn_picture(shape) if picture is None else picture,
            reference=lambda images: pad_detections(predict(model, images[0]), graph.rows),
            compare=detection_difference,
            output_names=graph.output_names,
        )
        return Part(graph, words, 'in scores, or in corners over the longest side', options)
    plain, names = part_of(model, part)
    changed = rewrite(plain) if part == 'backbone' else part_of(rewrite(model), part)[0]
    first = Normalise.of(model.data_preprocessor) or nn.Identity()
    options = dict(output_names=names, reference=plain)
    if normalise:
        options['images'] = drawn_picture(shape) if picture is None else picture
        options['reference'] = nn.Sequential(first, plain)
        changed = nn.Sequential(first, changed)
    elif picture is not None:
        options['images'] = first(picture).detach()
    return Part(changed, words, "of each output's largest value", options)


def part_of(model: nn.Module, part: str) -> tuple[nn.Module, list[str]]:
    """The part as a module of its own, and the names of its outputs; none where it does not tell.

    Args:
        model: Classifier or detector.
        part: ``'backbone'``, ``'neck'`` (with the backbone) or ``'classifier'``.

    Raises:
        UserError: The model has no such part.
    """
    if part == 'backbone':
        return model.backbone, [f'stage{i}' for i in getattr(model.backbone, 'out_indices', ())]
    if part == 'classifier':
        if not hasattr(model, 'head'):
            raise UserError(f'{type(model).__name__} is no classifier: give another --part')
        return model, ['scores']
    if getattr(model, 'neck', None) is None:
        raise UserError(f'{type(model).__name__} has no neck: give another --part')
    neck = nn.Sequential(model.backbone, model.neck)
    return neck, [f'level{i}' for i in range(getattr(model.neck, 'num_outs', 0))]


def drawn_picture(shape: Sequence[int]) -> Tensor:
    """Coloured spots, (1, 3, H, W) in 0 to 255: the same ones each time."""
    coarse = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(0)) * 255
    return nn.functional.interpolate(coarse, size=tuple(shape), mode='bicubic').clamp(0, 255)
