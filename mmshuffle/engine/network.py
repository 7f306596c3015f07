"""The one way from a config to a network: the config, its model with weights, a part of it."""

import contextlib
import copy
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn

from mmshuffle.checks import is_classifier_config
from mmshuffle.data.finetune import walk
from mmshuffle.errors import UserError, one_line
from mmshuffle.weights import load_pretrained

from . import shipped
from .config import read_config, register_config_imports

PARTS = ('backbone', 'neck', 'classifier', 'detector')
# Size of what is used where none is given, to scale random weights.
DEFAULT_SHAPE = (128, 128)
# Root mean square that random weights give the outputs of the last layers of a detector; all others
# have 1. Class scores that all but agree would be ordered by rounding, and boxes far from their
# anchors would leave the image.
LAST_LAYERS = {'cls': 2.0, 'reg': 0.1}


def load_model_config(
    name: str, options: Mapping[str, Any] | None = None, arguments: Mapping | None = None
) -> Config:
    """Read the config of a model.

    Args:
        name: Name of a config that comes with the project, such as ``shufflenetv2-x1.0``, or path
            of one.
        arguments: Where not None, ``name`` may also be a registered backbone; of its class.

    Returns:
        A config with ``model``; its ``filename`` is None for a registered backbone.

    Raises:
        UserError: ``name`` means nothing, the config cannot be read, or it has no model.
    """
    init_default_scope('mmdet')
    backbones = [] if arguments is None else list(MODELS.module_dict)
    if name in backbones and inspect.isclass(MODELS.get(name)):
        if options:
            raise UserError('--cfg-options is for a config: use --args for a registered backbone')
        return Config(dict(model=dict(type=name, **arguments)))
    path = shipped.resolve(name, backbones)
    if arguments:
        raise UserError('--args is for a registered backbone: use --cfg-options for a config')
    cfg = read_config(path, dict(options or {}))
    if 'model' not in cfg:
        raise UserError(f'config {name} has no model: give the config of a whole model')
    if arguments is None and 'backbone' not in cfg.model:
        raise UserError(f'config {name} has no model.backbone: give a classifier or detector')
    return cfg


def list_parts(cfg: Config) -> list[str]:
    """Name the parts of a config's model, of :data:`PARTS`, the whole last."""
    if 'backbone' not in cfg.model:
        return ['backbone']
    neck = ['neck'] if cfg.model.get('neck') is not None else []
    return ['backbone', *neck, 'classifier' if is_classifier_config(cfg) else 'detector']


def build_model(cfg: Config, device: str = 'cpu') -> nn.Module:
    """Build a config's model in evaluation mode, without weights; ``'meta'`` takes no memory."""
    register_config_imports(cfg)
    settings = copy.deepcopy(cfg.model)
    for _, node in walk(settings):  # weights that would be fetched only to be overwritten
        if 'checkpoint' in str(node.get('init_cfg')):
            del node['init_cfg']
    try:
        with torch.device(device):
            model = MODELS.build(settings)
    except Exception as error:  # the network may be anyone's
        where = f' of {cfg.filename}' if cfg.filename else f' {settings.get("type")}'
        raise UserError(f'the model{where} cannot be built: {one_line(error)}') from None
    model.eval()  # apart, because MMDetection's MobileNetV2 returns None
    return model


def load_model(
    cfg: Config,
    checkpoint: str | None = None,
    part: str | None = None,
    shape: Sequence[int] = DEFAULT_SHAPE,
) -> nn.Module:
    """Build a config's model in evaluation mode and give it weights.

    Args:
        checkpoint: Weights, see :func:`mmshuffle.weights.load_pretrained`. Where None, they are
            random, see :func:`randomise`.
        part: Of a ``'backbone'``, no more is needed of the checkpoint; the whole where None.
        shape: Height and width of an image that the model can take, for random weights.

    Raises:
        UserError: The model cannot be built, or the weights do not fit.
    """
    model = build_model(cfg)
    if checkpoint is None:
        randomise(model, shape)
    else:
        load_pretrained(model.backbone if part == 'backbone' else model, checkpoint)
    return model.eval()


def extract_part(model: nn.Module, part: str) -> tuple[nn.Module, list[str]]:
    """The part as a module of its own, and the names of its outputs; none where it does not tell.

    That is the ``'backbone'``, the ``'neck'`` (with the backbone) or the ``'classifier'``.
    """
    if part == 'backbone':
        return model.backbone, [f'stage{i}' for i in getattr(model.backbone, 'out_indices', ())]
    if part == 'detector':
        if not hasattr(model, 'bbox_head'):
            raise UserError(f'{type(model).__name__} is not of one stage: give --part neck')
        return HeadOutputs(model), []
    if part == 'classifier':
        if not hasattr(model, 'head'):
            raise UserError(f'{type(model).__name__} is no classifier: give another --part')
        return model, ['scores']
    if getattr(model, 'neck', None) is None:
        raise UserError(f'{type(model).__name__} has no neck: give another --part')
    neck = nn.Sequential(model.backbone, model.neck)
    return neck, [f'level{i}' for i in range(getattr(model.neck, 'num_outs', 0))]


class HeadOutputs(nn.Module):
    """A one-stage detector from a normalised image to what its head puts out, level by level."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Class scores of all levels, then their boxes, then their factors if there are some."""
        parts = self.detector.bbox_head(self.detector.extract_feat(image))
        return tuple(level for part in parts for level in part)


@torch.no_grad()
def randomise(model: nn.Module, shape: Sequence[int] = DEFAULT_SHAPE, seed: int = 0) -> None:
    """Fill a network with random weights under which every layer matters to the outputs.

    Initial weights of a training often make outputs that hardly depend on the input, and zeros or
    denormal numbers can run at another speed than weights of a trained network. Convolutions
    without ReLU and shortcuts double the variance each, which leads beyond 65504, where half
    precision ends, within a ShuffleNet V1: so the outputs of every layer are scaled to a mean
    square of 1.

    Args:
        model: Classifier, detector, backbone or any network of one image; in evaluation mode. The
            same seed always gives the same weights.
        shape: Height and width of an image that it can take.
    """
    random = torch.Generator().manual_seed(seed)
    channels = input_channels(model)
    handles = []
    for name, layer in reversed(list(model.named_modules())):
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.weight.normal_(0, math.sqrt(2 / layer.weight[0].numel()), generator=random)
            if layer.bias is not None:
                layer.bias.normal_(0, 0.1, generator=random)
            last = re.search(r'[a-z]_(cls|reg)(\.\d+)?$', name)  # fc_cls, gfl_reg, rtm_cls.0
            size = LAST_LAYERS[last[1]] if last else 1.0
            handles.append(layer.register_forward_hook(_scale_once(size)))
        elif isinstance(layer, _BatchNorm):
            layer.running_mean.normal_(0, 0.1, generator=random)
            layer.running_var.uniform_(0.8, 1.2, generator=random)
            if layer.affine:
                layer.weight.uniform_(0.8, 1.2, generator=random)
                layer.bias.normal_(0, 0.1, generator=random)
    try:
        with running(type(model).__name__, shape):
            if hasattr(model, 'roi_head') or hasattr(model, 'bbox_head'):
                predict(model, drawn_picture(shape, channels)[0])
            else:
                run = model if hasattr(model, 'head') else getattr(model, 'extract_feat', model)
                run(torch.randn(1, channels, *shape, generator=random))
    finally:
        for handle in handles:
            handle.remove()


def _scale_once(size: float) -> Callable:
    """Scale a layer, at its first call, so that its outputs have this root mean square."""
    done = []

    def scale(layer: nn.Module, inputs: tuple, output: Tensor) -> Tensor | None:
        if done:
            return None  # several levels of a pyramid share a layer
        done.append(True)
        factor = size * output.square().mean().rsqrt()
        for parameter in layer.parameters():
            parameter.mul_(factor)
        return output * factor

    return scale


@contextlib.contextmanager
def running(name: str, shape: Sequence[int]) -> Iterator[None]:
    """Turn whatever a network raises inside the block into one line."""
    try:
        yield
    except Exception as error:  # the network may be anyone's
        message = f'{name} cannot run on inputs of {shape[-2]}x{shape[-1]}: {one_line(error)}'
        raise UserError(message) from None


def predict(detector: nn.Module, image: Tensor) -> InstanceData:
    """Detect on an image, (3, H, W) as the test pipeline loads it, with MMDetection's own code."""
    from mmdet.structures import DetDataSample

    shape = tuple(image.shape[-2:])
    sample = DetDataSample(
        metainfo=dict(img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0), img_id=0)
    )
    with torch.no_grad():
        return detector.test_step(dict(inputs=[image], data_samples=[sample]))[0].pred_instances


def input_channels(model: nn.Module) -> int:
    """Channels of the images that a network takes: those of its first convolution."""
    return next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 3)


def drawn_picture(shape: Sequence[int], channels: int = 3) -> Tensor:
    """Coloured spots, (1, channels, H, W) in 0 to 255: the same ones each time."""
    coarse = torch.rand(1, channels, 9, 12, generator=torch.Generator().manual_seed(0)) * 255
    return nn.functional.interpolate(coarse, size=tuple(shape), mode='bicubic').clamp(0, 255)
