"""Pretrained weights in an ``init_cfg``: told from other entries, and loaded strictly.

Backbones know no weight files: the loader is found in mmengine's registry of initialisers, by the
name under which :mod:`mmshuffle.weights` registers it.
"""

from typing import Any

from mmengine.model import initialize
from torch import nn

from .errors import UserError

# mmengine's name, the name of its class, and that of the strict loader: here all mean the latter.
TYPES = ('Pretrained', 'PretrainedInit', 'PretrainedStrict')
KEYS = {'checkpoint', 'prefix', 'map_location', 'allow_missing'}


def is_pretrained(cfg: Any) -> bool:
    """Whether an entry of an ``init_cfg`` names weights, by name, with a scope, or by class."""
    kind = cfg.get('type') if isinstance(cfg, dict) else None
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return name.rpartition('.')[2] in TYPES


def split_init_cfg(init_cfg: dict | list[dict] | None) -> tuple[list[dict], list[dict]]:
    """Part mmengine's ``init_cfg`` into entries that name weights and the rest.

    Raises:
        UserError: An entry that names weights has no checkpoint, or an unknown key.
    """
    cfgs = [init_cfg] if isinstance(init_cfg, dict) else list(init_cfg or [])
    pretrained = [cfg for cfg in cfgs if is_pretrained(cfg)]
    for cfg in pretrained:
        if cfg.keys() - KEYS - {'type'} or not cfg.get('checkpoint'):
            raise UserError(
                f'init_cfg of type {cfg["type"]} has {sorted(cfg)}: give checkpoint, and prefix '
                'and allow_missing as you need them'
            )
    return pretrained, [cfg for cfg in cfgs if not is_pretrained(cfg)]


def load(module: nn.Module, cfg: dict) -> None:
    """Fill a module from the weights that an entry of an ``init_cfg`` names."""
    given = {key: value for key, value in cfg.items() if key in KEYS - {'map_location'}}
    initialize(module, dict(type='PretrainedStrict', **given))
