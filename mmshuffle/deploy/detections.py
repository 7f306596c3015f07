"""Comparing two lists of detections, and evaluating what is not PyTorch's."""

from collections.abc import Callable, Sequence

import numpy as np
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn.functional import pad
from tqdm import tqdm

from mmshuffle.engine.progress import quiet_screen

# From the path of a picture to ``bboxes`` in its pixels, ``scores`` and ``labels``, or, of a
# classifier, to the scores, (K,).
Look = Callable[[str], InstanceData | Tensor]
# Rounding may swap two boxes of nearly one score, of which NMS then keeps the other.
SWAPPED = 0.02


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


def evaluate(cfg: dict, look: Look, title: str, count: int | None = None) -> dict[str, float]:
    """Evaluate on the test set of a config.

    Args:
        cfg: Config of a detector or classifier, with ``test_dataloader`` and ``test_evaluator``.
        look: What is evaluated.
        title: Of the progress bar.
        count: How many of the images, evenly spread; all where None.

    Returns:
        The figures of the evaluator, such as ``coco/bbox_mAP``.
    """
    from mmdet.registry import DATASETS
    from mmengine.evaluator import Evaluator

    with quiet_screen():
        dataset = DATASETS.build(cfg['test_dataloader']['dataset'])
        evaluator = Evaluator(cfg['test_evaluator'])
    evaluator.dataset_meta = dataset.metainfo
    chosen = spread(range(len(dataset)), count)
    if len(chosen) < len(dataset):  # what is in images that nobody looked at is not missed
        for metric in evaluator.metrics:
            metric.img_ids = [dataset.get_data_info(index).get('img_id') for index in chosen]
    for index in tqdm(chosen, title, unit='image'):
        sample = dataset[index]['data_samples']
        found = look(dataset.get_data_info(index)['img_path'])
        if isinstance(found, Tensor):
            sample = dict(scores=found, gt_label=sample)
        else:
            sample.pred_instances = found
        evaluator.process(data_samples=[sample])
    with quiet_screen():
        return evaluator.evaluate(len(chosen))


def spread(items: Sequence, count: int | None) -> list:
    """Take ``count`` of the items, evenly spread; all where None or where there are fewer."""
    if count is None or count >= len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]
