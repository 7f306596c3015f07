"""Checks of the weights that a model starts from."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import nn

from mmshuffle.errors import way_to_train
from mmshuffle.pretrained import is_pretrained

from .dataset_config import is_local
from .problem import Problem, as_list


def check_untrained_norm(
    part: Mapping[str, Any], network: nn.Module, where: str, init_cfg: Any = None
) -> Iterator[Problem]:
    """Look for statistics that are never learned and never loaded: the detector learns nothing.

    Args:
        part: Config of a backbone, or of a part that is made like one.
        init_cfg: What it starts from, where this is not in its config.
    """
    if any(is_pretrained(entry) for entry in as_list(init_cfg or part.get('init_cfg'))):
        return
    if not any(isinstance(module, _BatchNorm) for module in network.modules()):
        return
    if part.get('norm_eval') or part.get('frozen_stages', -1) >= 0:
        yield Problem(
            where,
            'norm_eval or frozen_stages without pretrained weights: layers stay at their random '
            'initial values (AP 0); give init_cfg a checkpoint, or drop both',
            fatal=False,
        )


def check_checkpoints(cfg: Config, training: bool) -> list[Problem]:
    """Look for the local checkpoint files that a run starts from."""
    found = [('load_from', cfg.get('load_from'))]
    if training and not cfg.get('load_from'):
        found += _pretrained(cfg.model, 'model')
    return [
        Problem(
            where, f'checkpoint {path} does not exist; fix it, or give None{way_to_train(path)}'
        )
        for where, path in found
        if isinstance(path, str) and is_local(path) and not Path(path).expanduser().is_file()
    ]


def _pretrained(node: Any, where: str) -> list[tuple[str, str]]:
    """Every checkpoint of an ``init_cfg`` in a model."""
    found = []
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == 'init_cfg':
                entries = value if isinstance(value, (list, tuple)) else [value]
                found += [
                    (f'{where}.init_cfg.checkpoint', entry['checkpoint'])
                    for entry in entries
                    if isinstance(entry, Mapping) and entry.get('checkpoint')
                ]
            else:
                found += _pretrained(value, f'{where}.{key}')
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            found += _pretrained(value, f'{where}[{index}]')
    return found
