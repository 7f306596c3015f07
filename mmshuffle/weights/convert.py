"""From a published file to this package's names, for a network that is given or found."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmdet.registry import MODELS
from torch import Tensor, nn

from mmshuffle.errors import UserError, one_line

from .families import Family, recognise
from .loader import LoadReport, describe, load_tensors
from .reader import read_weights
from .settings import noted_settings
from .zoo import RELU6, find_entry

Network = dict[str, Any]


def _shufflenet_v2(layout: str, **kwargs: Any) -> list[Network]:
    return [
        dict(type='ShuffleNetV2', widen_factor=width, layout=layout, **kwargs)
        for width in (0.5, 1.0, 1.5, 2.0)
    ]


def _shufflenet_v1(**kwargs: Any) -> list[Network]:
    return [
        dict(type='ShuffleNetV1', groups=groups, widen_factor=width, **kwargs)
        for width in (1.0, 0.25, 0.5, 1.5, 2.0)
        for groups in (3, 1, 2, 4, 8)
    ]


def _mobilenet_v1(*widths: float, **kwargs: Any) -> list[Network]:
    return [
        dict(type='MobileNetV1', widen_factor=width, act_cfg=RELU6, **kwargs) for width in widths
    ]


MOBILENET_V2 = [dict(type='MobileNetV2', widen_factor=width) for width in (1.0, 0.5, 0.75, 1.4)]
# The networks that files of a family can be of. Their shapes differ, so one at most fits a file.
NETWORKS: dict[str, list[Network]] = {
    'NanoDet ShuffleNetV2': _shufflenet_v2('torchvision', act_cfg=dict(type='LeakyReLU')),
    'torchvision ShuffleNetV2': _shufflenet_v2('torchvision'),
    'MMPretrain ShuffleNetV2': _shufflenet_v2('torchvision'),
    'MMPretrain ShuffleNetV1': _shufflenet_v1(),
    'megvii ShuffleNetV1': _shufflenet_v1(shuffle='inverse'),
    'megvii ShuffleNetV2': _shufflenet_v2('megvii'),
    'Yolo-FastestV2 ShuffleNetV2': _shufflenet_v2('megvii'),
    'TF-slim MobileNetV1': _mobilenet_v1(
        1.0, 0.25, 0.5, 0.75, padding='same', norm_cfg=dict(type='BN', eps=1e-3)
    ),
    'timm MobileNetV1': _mobilenet_v1(1.0, 1.25, 0.25, 0.5, 0.75),
    'torchvision MobileNetV2': MOBILENET_V2,
    'torchvision MobileNetV2 with flat names': MOBILENET_V2,
    'torchvision SqueezeNet 1.0': [dict(type='SqueezeNet', version='1.0')],
    'torchvision SqueezeNet 1.1': [dict(type='SqueezeNet', version='1.1')],
    'torchvision AlexNet': [dict(type='AlexNet', version='torchvision')],
}


def convert_file(
    source: str | Path, network: Mapping[str, Any] | None = None, prefix: str | None = None
) -> tuple[nn.Module, Network, LoadReport]:
    """Read a published file into a network.

    Args:
        source: Path, http(s) address or zoo name.
        network: Config of a backbone, or of an image classifier; where None, that of the zoo's
            entry, or else the one of the file's family that the tensors fit. ShuffleNetV2 without
            ``out_indices`` gets Conv5 if the file has it.
        prefix: Name below which the file has the network's tensors, see
            :func:`mmshuffle.weights.load_pretrained`.

    Returns:
        The network with the weights, its config, and what became of each tensor.

    Raises:
        UserError: The file cannot be read, its network cannot be told, or they do not fit.
    """
    tensors, meta = read_weights(source)
    note = noted_settings(meta)
    if network is not None:
        candidates = [dict(network)]
    else:
        candidates = _candidates(str(source), tensors, prefix)
    nearest: tuple[nn.Module, LoadReport] | None = None
    for candidate in candidates:
        for config in _with_conv5(candidate):
            module = _build(config)
            report = load_tensors(module, tensors, str(source), prefix, note)
            if report.fits:
                return module, config, report
            if nearest is None or len(report.matched) > len(nearest[1].matched):
                nearest = module, report
    module, report = nearest
    if len(candidates) == 1:
        raise UserError(
            f'the weights do not fit {describe(module)}: {report}; name the network that they are '
            'for'
        )
    raise UserError(
        f'the weights fit none of {len(candidates)} networks of their family; the nearest is '
        f'{describe(module)}: {report}; name the network that they are for'
    )


def family_of(tensors: Mapping[str, Tensor], prefix: str | None = None) -> Family | None:
    """The family that the names of a file's tensors tell, None where it is none of the known.

    Args:
        tensors: Tensors by published names.
        prefix: Name below which the backbone's are.
    """
    # Converters take what a module does not say about itself for what they need.
    return recognise(nn.Identity(), dict(tensors), prefix)[0]


def _candidates(source: str, tensors: Mapping[str, Tensor], prefix: str | None) -> list[Network]:
    entry = find_entry(source)
    if entry is not None:
        return [entry.network]
    family = family_of(tensors, prefix)
    if family is None:
        raise UserError(f'{source} is of no known family: name the network that it is for')
    return NETWORKS[family.name]


def _with_conv5(config: Network) -> Iterator[Network]:
    if config.get('type') == 'ShuffleNetV2' and 'out_indices' not in config:
        yield {**config, 'out_indices': (0, 1, 2, 3, 4)}
    yield config


def _build(config: Network) -> nn.Module:
    try:
        return MODELS.build({'_scope_': 'mmdet', **config})
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f'network {config.get("type")} cannot be built: {one_line(error)}'
        ) from None
