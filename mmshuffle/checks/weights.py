"""Checks of the weights that a model starts from, and that it is fed what they were trained on."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import nn

from mmshuffle.data.finetune import walk
from mmshuffle.errors import UserError, way_to_train
from mmshuffle.pretrained import is_pretrained
from mmshuffle.weights.families import find_family
from mmshuffle.weights.family import FAMILIES, Normalisation
from mmshuffle.weights.reader import path_if_here, read_tensors
from mmshuffle.weights.zoo import find_entry

from .dataset_config import is_local
from .problem import Problem, as_list

# In grey values: publishers round, and a difference below this changes nothing.
MEAN_TOLERANCE = 0.5
STD_TOLERANCE = 0.01


def check_input(model: Mapping[str, Any], where: str = 'model') -> Iterator[Problem]:
    """Compare the input of a detector or classifier with that of its backbone's weights.

    Another input costs accuracy without any message, but may be meant: it is a warning. Nothing is
    downloaded; weights that are not on this machine are known by their zoo name or address alone.
    Images count as loaded in BGR order, as mmcv and MMDetection do.

    Args:
        model: Config of a model with ``backbone`` and ``data_preprocessor``; without either there
            is nothing to compare. Weights of the whole model count before those of the backbone,
            which they replace.
    """
    backbone, preprocessor = model.get('backbone'), model.get('data_preprocessor')
    if not isinstance(backbone, Mapping) or not isinstance(preprocessor, Mapping):
        return
    whole = [entry for entry in as_list(model.get('init_cfg')) if is_pretrained(entry)]
    own = [entry for entry in as_list(backbone.get('init_cfg')) if is_pretrained(entry)]
    given = _input_of(preprocessor)
    for entry in whole or own:
        checkpoint = str(entry.get('checkpoint'))
        try:
            trained = _trained_input(checkpoint, entry.get('prefix'))
        except UserError as error:
            part = where if whole else f'{where}.backbone'
            yield Problem(f'{part}.init_cfg.checkpoint', str(error))
            continue
        if trained is not None and given is not None and not _alike(given, trained):
            fix = f'mean={list(trained.mean)}, std={list(trained.std)}'
            fix = f'unless that is meant, set {fix}, bgr_to_rgb={trained.channel_order == "RGB"}'
            message = f'feeds {given}, but {checkpoint} was trained on {trained}: {fix}'
            yield Problem(f'{where}.data_preprocessor', message, fatal=False)


def _trained_input(checkpoint: str, prefix: str | None) -> Normalisation | None:
    """The input that weights were trained with, None where it cannot be told without a download.

    Raises:
        UserError: It is a name of the zoo that the zoo lacks.
    """
    entry = find_entry(checkpoint)
    if entry is not None:
        return next(f.normalisation for f in FAMILIES if f.name == entry.family)
    try:
        path = path_if_here(checkpoint)
        family = None if path is None else find_family(read_tensors(path), prefix)
    except UserError:
        return None  # what cannot be read is told, and ends the run, where it is loaded
    return None if family is None else family.normalisation


def _input_of(preprocessor: Mapping[str, Any]) -> Normalisation | None:
    """What a preprocessor feeds; None if it is not images of three channels."""
    # mmengine swaps the channels for either.
    swapped = preprocessor.get('bgr_to_rgb') or preprocessor.get('rgb_to_bgr')
    order = 'RGB' if swapped else 'BGR'
    mean, std = (tuple(preprocessor.get(k) or [v]) for k, v in (('mean', 0.0), ('std', 1.0)))
    mean, std = (values * 3 if len(values) == 1 else values for values in (mean, std))
    return Normalisation(order, mean, std, 'the config') if len(mean) == len(std) == 3 else None


def _alike(a: Normalisation, b: Normalisation) -> bool:
    return (
        a.channel_order == b.channel_order
        and np.allclose(a.mean, b.mean, rtol=0, atol=MEAN_TOLERANCE)
        and np.allclose(a.std, b.std, rtol=STD_TOLERANCE, atol=0)
    )


def check_untrained_norm(
    part: Mapping[str, Any], network: nn.Module, where: str, init_cfg: Any = None
) -> Iterator[Problem]:
    """Look for statistics that are never learned and never loaded: the detector learns nothing.

    ``part`` is a backbone or made like one; ``init_cfg`` what it starts from, if not in that.
    """
    if any(is_pretrained(entry) for entry in as_list(init_cfg or part.get('init_cfg'))):
        return
    if not any(isinstance(module, _BatchNorm) for module in network.modules()):
        return
    if part.get('norm_eval') or part.get('frozen_stages', -1) >= 0:
        message = 'norm_eval or frozen_stages without pretrained weights: layers stay at their '
        message += 'random initial values (AP 0); give init_cfg a checkpoint, or drop both'
        yield Problem(where, message, fatal=False)


def check_checkpoints(cfg: Config, training: bool) -> list[Problem]:
    """Look for the local checkpoint files that a run starts from."""
    found = [('load_from', cfg.get('load_from'))]
    if training and not found[0][1]:
        found += [
            (f'{where}.init_cfg.checkpoint', entry.get('checkpoint'))
            for where, part in walk(cfg.model, 'model')
            for entry in as_list(part.get('init_cfg'))
        ]
    message = 'does not exist; fix it, or give None'
    return [
        Problem(where, f'checkpoint {path} {message}{way_to_train(path)}')
        for where, path in found
        if path and isinstance(path, str) and is_local(path)
        if not Path(path).expanduser().is_file()
    ]
