"""The part of a model that is to be exported, with what its file is checked against."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn.functional import pad

from mmshuffle.engine.network import drawn_picture, extract_part, input_channels, predict
from mmshuffle.errors import UserError

from .board import decode
from .detector_graph import TwoStageGraph
from .normalise import Normalise
from .one_stage import OneStageGraph, RawGraph

# Rounding may swap two boxes of nearly one score, of which NMS then keeps the other.
SWAPPED = 0.02


@dataclass(frozen=True)
class Part:
    """Part of a model, with what :func:`mmshuffle.deploy.export` needs to write and check it."""

    module: nn.Module  # what is exported
    input: str  # what it takes, in words
    measure: str  # how a difference of its outputs is measured, in words
    options: dict[str, Any]  # arguments of ``export``
    # Of a detector: what the device has to know, see :mod:`mmshuffle.deploy.board`.
    facts: dict[str, Any] = field(default_factory=dict)
    # Makes the input of an image as it is loaded, (1, C, H, W) in 0 to 255; None where it is that.
    prepare: Callable[[Tensor], Tensor] | None = None


def cut(
    model: nn.Module,
    part: str,
    shape: Sequence[int],
    rewrite: Callable[[nn.Module], nn.Module],
    normalise: bool | None = None,
    picture: Tensor | None = None,
    raw: bool = False,
) -> Part:
    """Cut ``part`` out of a model and rewrite it.

    Args:
        model: Classifier or detector in evaluation mode.
        part: One of :data:`mmshuffle.engine.network.PARTS`.
        shape: Height and width of the image. The detector's is the one that the test pipeline
            makes; backbone and neck get it padded.
        rewrite: Changes the form of a module, not its function.
        normalise: Whether the graph takes images as they are loaded, in 0 to 255, and normalises
            them. Where None, classifier and detector do, and backbone and neck do not.
        picture: Image to check with, (1, C, H, W) in 0 to 255. Where None, it is a drawn one, or
            random numbers for a part that takes normalised images.
        raw: Of a one-stage detector: cut it off behind its head, for a format without NMS.

    Raises:
        UserError: The model has no such part, or a detector is to get normalised images.
    """
    channels = input_channels(model)
    whole = part in ('classifier', 'detector')
    normalise = whole if normalise is None else normalise
    words = 'normalised image'
    if normalise:
        words = f'{"BGR" if channels == 3 else f"{channels}-channel"} image in 0 to 255'
        picture = drawn_picture(shape, channels) if picture is None else picture
    if part == 'detector':
        if not normalise:
            raise UserError('a whole detector takes images in 0 to 255: leave --no-normalise out')
        two = hasattr(model, 'roi_head') or not hasattr(model, 'bbox_head')
        kind = RawGraph if raw else TwoStageGraph if two else OneStageGraph
        graph = kind(rewrite(model), shape)
        options = dict(
            images=picture,
            reference=lambda images: pad_detections(predict(model, images[0]), graph.rows),
            compare=detection_difference,
            output_names=graph.output_names,
        )
        if raw:
            options['finish'] = lambda outputs: decode(outputs, graph.facts, shape)
        facts = dict(shape=list(shape), head=graph.facts if raw else None)
        return Part(graph, words, 'in scores, or in corners over the longest side', options, facts)
    plain, names = extract_part(model, part)
    changed = rewrite(plain) if part == 'backbone' else extract_part(rewrite(model), part)[0]
    first = Normalise.of(model.data_preprocessor, channels) or nn.Identity()
    options = dict(output_names=names, reference=plain)
    if normalise:
        options |= dict(images=picture, reference=nn.Sequential(first, plain))
        changed = nn.Sequential(first, changed)
    elif picture is not None:
        options['images'] = first(picture).detach()
    prepare = None if normalise else first
    return Part(changed, words, "of each output's largest value", options, prepare=prepare)


def pad_detections(found: InstanceData, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Write MMDetection's predictions as :class:`TwoStageGraph` does: in ``count`` rows."""
    missing = count - len(found.scores)
    boxes, scores = pad(found.bboxes, (0, 0, 0, missing)), pad(found.scores, (0, missing))
    return boxes, scores, pad(found.labels, (0, missing), value=-1)


def detection_difference(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """Compare two results of :class:`TwoStageGraph`, whatever the order of close scores.

    Every detection is compared with the most similar one of its class: the larger of the
    difference of the scores and that of the corners, over the longest side of all boxes. Up to 2 %
    of the detections of either side may be without counterpart.

    Returns:
        The largest difference of a pair; infinite where more have no counterpart, or where one side
        has more detections by more than that.
    """
    (boxes, scores, labels), (other_boxes, other_scores, other_labels) = (
        tuple(part[result[1] > 0] for part in result) for result in (expected, found)
    )
    most = max(len(scores), len(other_scores))
    if abs(len(scores) - len(other_scores)) > SWAPPED * most:
        return float('inf')
    if most == 0:
        return 0.0
    extent = max(boxes.max(), other_boxes.max(), 1)
    distance = np.abs(boxes[:, None] - other_boxes[None]).max(2) / extent
    distance = np.maximum(distance, np.abs(scores[:, None] - other_scores[None]))
    distance[labels[:, None] != other_labels[None]] = np.inf
    nearest = [np.sort(distance.min(axis)) for axis in (0, 1)]
    return max(float(distances[-1 - int(SWAPPED * len(distances))]) for distances in nearest)
