"""From a published file to this package's names, for a network that is given or found."""

from collections.abc import Mapping
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
    weights, source = read_weights(source), str(source)
    if network is not None:
        candidates = [dict(network)]
    elif (entry := find_entry(source)) is not None:
        candidates = [entry.network]
    elif (family := find_family(weights.tensors, prefix)) is not None:
        candidates = family.networks
    else:
        raise UserError(f'{source} is of no known family: name the network that it is for')
    tried: list[tuple[nn.Module, LoadReport]] = []
    for config in candidates:
        both = [config]
        if config.get('type') == 'ShuffleNetV2' and 'out_indices' not in config:
            both.insert(0, {**config, 'out_indices': (0, 1, 2, 3, 4)})
        for config in both:
            try:
                module = MODELS.build({'_scope_': 'mmdet', **config})
            except Exception as error:  # the network may be anyone's
                message = f'network {config.get("type")} cannot be built: {one_line(error)}'
                raise UserError(message) from None
            report = load_weights(module, weights, source, prefix)
            if report.fits:
                return module, config, report
            tried.append((module, report))
    module, report = max(tried, key=lambda entry: len(entry[1].matched))
    several = f'none of {len(candidates)} networks of their family; the nearest is '
    raise UserError(
        f'the weights {"do not fit " if len(candidates) == 1 else f"fit {several}"}'
        f'{describe(module)}: {report}; name the network that they are for'
    )
