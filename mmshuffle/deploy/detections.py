"""Comparing two lists of detections, and evaluating a detector that is not PyTorch's."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor
from tqdm import tqdm

from mmshuffle.checks.dataset_config import type_name
from mmshuffle.engine.progress import quiet_screen
from mmshuffle.errors import UserError

from .formats import Inference

Detect = Callable[[Tensor], Sequence[Tensor]]
# Rounding may swap two boxes of nearly one score, of which NMS then keeps the other.
SWAPPED = 0.02


def pad_detections(found: InstanceData, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Write MMDetection's predictions as :class:`TwoStageGraph` does: in ``count`` rows."""
    missing = count - len(found.scores)
    return (
        torch.cat((found.bboxes, found.bboxes.new_zeros(missing, 4))),
        torch.cat((found.scores, found.scores.new_zeros(missing))),
        torch.cat((found.labels, found.labels.new_full((missing,), -1))),
    )


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
    return max(_all_but_few(distance.min(1)), _all_but_few(distance.min(0)))


def _all_but_few(nearest: np.ndarray) -> float:
    """Largest distance, without the few largest."""
    return float(np.sort(nearest)[-1 - int(SWAPPED * len(nearest))])


def evaluate(cfg: dict, shape: Sequence[int], detect: Detect, title: str) -> dict[str, float]:
    """Evaluate on the test set of a config, with images resized to one shape.

    Args:
        cfg: Config of a detector, with ``test_dataloader`` and ``test_evaluator``.
        shape: Height and width that images are resized to, whatever the config says.
        detect: Maps an image, (3, H, W) as loaded, to boxes (K, 4) in its pixels, scores (K,) and
            labels (K,); rows with score 0 are left out.
        title: Of the progress bar.

    Returns:
        The figures of the evaluator, such as ``coco/bbox_mAP``.

    Raises:
        UserError: The images do not come out in that shape.
    """
    from mmdet.registry import DATASETS
    from mmengine.evaluator import Evaluator

    with quiet_screen():
        settings = cfg['test_dataloader']['dataset']
        pipeline = resized(settings['pipeline'], shape)
        dataset = DATASETS.build({**settings, 'pipeline': pipeline})
        evaluator = Evaluator(cfg['test_evaluator'])
    evaluator.dataset_meta = dataset.metainfo
    for index in tqdm(range(len(dataset)), title, unit='image'):
        item = dataset[index]
        sample = item['data_samples']
        sample.pred_instances = detect_prepared(item, shape, detect)
        evaluator.process(data_samples=[sample])
    with quiet_screen():
        return evaluator.evaluate(len(dataset))


def detect_prepared(item: dict, shape: Sequence[int], detect: Detect) -> InstanceData:
    """Detect on what a test pipeline made of a picture.

    Args:
        item: With ``inputs`` and ``data_samples``.
        shape: Height and width that the detector takes.
        detect: See :func:`evaluate`.

    Returns:
        ``bboxes`` in pixels of the picture, ``scores`` and ``labels``.

    Raises:
        UserError: The image does not have that shape.
    """
    size = tuple(item['inputs'].shape[1:])
    if size != tuple(shape):
        raise UserError(
            f'the test pipeline makes images of {size[0]}x{size[1]} in spite of --shape '
            f'{shape[0]} {shape[1]}: give it a step Resize, and none behind that pads or crops'
        )
    boxes, scores, labels = detect(item['inputs'])
    real = scores > 0
    scale = boxes.new_tensor(item['data_samples'].scale_factor * 2)
    return InstanceData(bboxes=boxes[real] / scale, scores=scores[real], labels=labels[real])


def in_runtime(run: Inference) -> Detect:
    """A whole detector that a runtime has loaded, for :func:`evaluate`."""

    def detect(image: Tensor) -> list[Tensor]:
        return [torch.from_numpy(out) for out in run(image[None].numpy().astype(np.float32))]

    return detect


def resized(pipeline: Sequence[dict], shape: Sequence[int]) -> list[dict]:
    """A test pipeline that resizes to ``shape``, height and width, whatever the ratio of sides."""
    return [
        {**step, 'scale': (shape[1], shape[0]), 'keep_ratio': False}
        if type_name(step) == 'Resize'
        else step
        for step in pipeline
    ]
