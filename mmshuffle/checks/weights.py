"""Checks of the weights that a model starts from."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import nn

from mmshuffle.pretrained import is_pretrained

from .problem import Problem, as_list


def check_untrained_norm(
    part: Mapping[str, Any], network: nn.Module, where: str, init_cfg: Any = None
) -> Iterator[Problem]:
    """Look for statistics that are never learned and never loaded: the detector learns nothing.

    Args:
        part: Config of a backbone, or of a part that is made like one.
        network: It, built.
        where: Its place in the config.
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
