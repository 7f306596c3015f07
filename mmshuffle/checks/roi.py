"""Checks that the parts of an RoI head fit the feature maps and each other."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from .dataset_config import type_name
from .parts import Features, fit, unbuildable
from .problem import Problem, as_list, mismatch, placed
from .weights import check_untrained_norm

# RoIs of the trial.
COUNT = 2


def check_roi_head(
    head: Mapping[str, Any], where: str, features: Features, starts_trained: bool = False
) -> Iterator[Problem]:
    """Follow RoI features from the extractors to the box and mask heads."""
    pooled = {}
    for task in ('bbox', 'mask'):
        name = f'{task}_roi_extractor'
        for extractor in as_list(head.get(name)):
            yield from _check_extractor(extractor, f'{where}.{name}', features)
            pooled[task] = _rois(extractor)
    rois = pooled.get('bbox')
    if isinstance(head.get('shared_head'), Mapping) and rois is not None:
        shared, place = head['shared_head'], f'{where}.shared_head'
        rois = yield from _check_shared_head(shared, place, rois, starts_trained)
    for name, given in (('bbox_head', rois), ('mask_head', pooled.get('mask', rois))):
        for place, part in placed(head.get(name), f'{where}.{name}'):
            yield from _check_head(part, place, given) if given is not None else ()


def _check_extractor(
    extractor: Mapping[str, Any], where: str, features: Features
) -> Iterator[Problem]:
    steps, width = extractor.get('featmap_strides'), extractor.get('out_channels')
    if not isinstance(steps, (list, tuple)):
        return
    wanted, channels = features.strides[: len(steps)], features.channels[0]
    if list(steps) != wanted:
        truth = f'its inputs have strides {features.strides}'
        yield mismatch(f'{where}.featmap_strides', list(steps), truth, wanted)
    # Each bin of a position-sensitive layer reads channels of its own.
    rois = _rois(extractor) if type_name(extractor) == 'PSRoIExtractor' else None
    bins = 1 if rois is None else rois[0, 0].numel()
    if isinstance(width, int) and width * bins != channels:
        multiple = f'give it a multiple of {bins}, the bins of an RoI'
        advice = multiple if channels % bins else f'set it to {channels // bins}'
        message = f'{width}, but its inputs have {channels} channels: {advice}'
        yield Problem(f'{where}.out_channels', message)


def _rois(extractor: Mapping[str, Any]) -> Tensor | None:
    """What an RoI extractor returns."""
    layer, width = extractor.get('roi_layer'), extractor.get('out_channels')
    size = layer.get('output_size', 7) if isinstance(layer, Mapping) else None
    size = size if isinstance(size, (list, tuple)) else (size, size)
    if not all(isinstance(n, int) for n in (width, *size)):
        return None
    return torch.empty(COUNT, width, *size, device='meta')


def _check_shared_head(
    shared: Mapping[str, Any], where: str, rois: Tensor, starts_trained: bool
) -> Iterator[Problem]:
    """Yield what is wrong; return the shared head's output, None where it is not known."""
    trial = fit(shared, rois)
    backbone = shared.get('backbone')
    if isinstance(backbone, Mapping) and trial.module is not None and not starts_trained:
        # It takes norm_eval from this, and not frozen_stages.
        part = {**backbone, 'frozen_stages': -1}
        yield from check_untrained_norm(part, trial.module, where, shared.get('init_cfg'))
    if trial.error:
        wanted, width = getattr(trial.module, 'in_channels', None), rois.shape[1]
        message = f'does not take RoIs of {width} channels: {trial.error}'
        if isinstance(wanted, int) and wanted != width:
            fix = "give it the detector's backbone, and the stage behind its last output"
            message = f'takes {wanted} channels, but gets {width}: {fix}'
        yield Problem(where, message)
    return trial.outputs if isinstance(trial.outputs, Tensor) else None


def _check_head(head: Mapping[str, Any], where: str, rois: Tensor) -> Iterator[Problem]:
    width, size = rois.shape[1], rois.shape[-1]
    fixes = [dict(in_channels=width), dict(roi_feat_size=size)]
    fixes.append(fixes[0] | fixes[1])
    trial = fit(head, rois, fixes)
    pooled = f'RoIs of {width} channels and {size} x {size} pixels'
    for key, value in (trial.fix or {}).items():
        given = head.get(key, 'its default')
        yield mismatch(f'{where}.{key}', given, f'it gets {pooled}', value)
    if trial.module is None:
        yield unbuildable(where, head, trial)
    elif trial.error and not trial.fix:
        yield Problem(where, f'it does not take {pooled}: {trial.error}')
    if trial.outputs is None and trial.module is not None:  # it takes more than RoIs
        wanted = getattr(trial.module, 'in_channels', width)
        if isinstance(wanted, int) and wanted != width:
            yield mismatch(f'{where}.in_channels', wanted, f'it gets {pooled}', width)
