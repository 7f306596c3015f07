"""From a published file to this package's names, for a network that is given or found."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import MODELS
from torch import nn

from mmshuffle.errors import UserError, one_line

from .families import find_family
from .family import Network
from .loader import LoadReport, describe, load_weights
from .reader import read_weights
from .zoo import find_entry


def convert_file(
    source: str | Path, network: Mapping[str, Any] | None = None, prefix: str | None = None
) -> tuple[nn.Module, Network, LoadReport]:
    """Read a published file into a network.

    Args:
        network: Config of a backbone, or of an image classifier; where None, that of the zoo's
            entry, or else the one of the file's family that the tensors fit. ShuffleNetV2 without
            ``out_indices`` gets Conv5 if the file has it.
        prefix: Name below which the file has the network's tensors, see
            :func:`mmshuffle.weights.load_pretrained`.

    Raises:
        UserError: The file cannot be read, its network cannot be told, or they do not fit.
    """
    weights = read_weights(source)
    if network is not None:
        candidates = [dict(network)]
    else:
        candidates = _candidates(str(source), weights.tensors, prefix)
    nearest: tuple[nn.Module, LoadReport] | None = None
    for candidate in candidates:
        for config in _with_conv5(candidate):
            module = _build(config)
            report = load_weights(module, weights, str(source), prefix)
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


def _candidates(source: str, names: Collection[str], prefix: str | None) -> Sequence[Network]:
    entry = find_entry(source)
    if entry is not None:
        return [entry.network]
    family = find_family(names, prefix)
    if family is None:
        raise UserError(f'{source} is of no known family: name the network that it is for')
    return family.networks


def _with_conv5(config: Network) -> Iterator[Network]:
    if config.get('type') == 'ShuffleNetV2' and 'out_indices' not in config:
        yield {**config, 'out_indices': (0, 1, 2, 3, 4)}
    yield config


def _build(config: Network) -> nn.Module:
    try:
        return MODELS.build({'_scope_': 'mmdet', **config})
    except Exception as error:  # the network may be anyone's
        raise UserError(
            f'network {config.get("type")} cannot be built: {one_line(error)}'
        ) from None
