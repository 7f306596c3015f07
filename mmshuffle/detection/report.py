"""What a person wants to see after a training run: figures, curves and pictures with boxes."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from mmshuffle.reporting import new_figure, to_png

# Our names for the figures of MMDetection's CocoMetric, in the order of the table.
FIGURES = {
    'AP': 'coco/bbox_mAP',
    'AP50': 'coco/bbox_mAP_50',
    'AP75': 'coco/bbox_mAP_75',
    'APs': 'coco/bbox_mAP_s',
    'APm': 'coco/bbox_mAP_m',
    'APl': 'coco/bbox_mAP_l',
}
WIDTH = 640  # of a drawn image, in pixels


def figures(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """Pick the COCO figures, 0 to 1; None where no object of that size exists."""
    return {name: _figure(metrics.get(key)) for name, key in FIGURES.items()}


def figures_per_class(
    metrics: Mapping[str, float | None], classes: Sequence[str]
) -> dict[str, float | None]:
    """Pick the AP of each class, 0 to 1; None where no object of that class exists."""
    return {name: _figure(metrics.get(f'coco/{name}_precision')) for name in classes}


def table(overall: Mapping[str, float | None], per_class: Mapping[str, float | None]) -> str:
    """Lay out figures as text, in percent."""
    lines = [' '.join(f'{name:>7}' for name in overall)]
    lines.append(' '.join(f'{_percent(value):>7}' for value in overall.values()))
    width = max(map(len, per_class))
    lines += ['', f'{"class":<{width}} {"AP":>7}']
    lines += [f'{name:<{width}} {_percent(value):>7}' for name, value in per_class.items()]
    return '\n'.join(lines)


def plot_history(history: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """Plot loss and AP of a :class:`.HistoryHook`'s records as a PNG file."""
    figure = new_figure(7, 6)
    from matplotlib.ticker import MaxNLocator

    upper, lower = figure.subplots(2, sharex=True)
    figure.suptitle(title)
    upper.plot([r['epoch'] for r in history], [r['loss'] for r in history], 'o-', markersize=3)
    upper.set_ylabel('training loss\n(mean over the epoch)')
    upper.set_ylim(bottom=0)
    evaluated = [record for record in history if record.get('metrics')]
    for name in ('AP50', 'AP', 'AP75'):
        values = [figures(record['metrics'])[name] for record in evaluated]
        values = [np.nan if value is None else 100 * value for value in values]
        lower.plot([r['epoch'] for r in evaluated], values, 'o-', markersize=3, label=name)
    lower.set_ylabel('validation AP (%)')
    lower.set_xlabel('epoch')
    lower.set_ylim(0, 100)
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    lower.legend(loc='best')
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return to_png(figure, dpi=110)


class Drawing:
    """Boxes with classes, and scores from a least one, on pictures, which are BGR."""

    def __init__(self, classes: Sequence[str], min_score: float = 0.3) -> None:
        self.visualizer = DetLocalVisualizer()
        self.visualizer.dataset_meta = dict(classes=tuple(classes), palette='random')
        self.min_score = min_score

    def __call__(
        self, picture: np.ndarray, found: InstanceData, truth: InstanceData | None = None
    ) -> np.ndarray:
        """Draw predictions on a copy of a picture; true boxes, if given, on another to its left."""
        sample = DetDataSample(pred_instances=found)
        if truth is not None:
            sample.gt_instances = truth
        with warnings.catch_warnings():
            # A box may end where the picture does.
            warnings.filterwarnings('ignore', message='.*out of bounds')
            self.visualizer.add_datasample(
                'detections',
                picture[..., ::-1],
                sample,
                draw_gt=truth is not None,
                pred_score_thr=self.min_score,
            )
        return np.ascontiguousarray(self.visualizer.get_image()[..., ::-1])


def draw_predictions(
    truth: Mapping[str, Any],
    predictions: Sequence[Mapping[str, Any]],
    images: str | Path,
    count: int = 8,
) -> Iterator[tuple[str, bytes]]:
    """Draw true boxes on the left and predicted ones on the right of some images.

    Args:
        truth: A COCO annotation file.
        predictions: COCO results: ``image_id``, ``category_id``, ``bbox`` and ``score``.
        images: Folder of the images.
        count: Number of images, spread evenly over those of ``truth``.

    Yields:
        The name of each image without its ending, and the picture as JPEG.
    """
    labels = {category['id']: label for label, category in enumerate(truth['categories'])}
    drawing = Drawing([category['name'] for category in truth['categories']])
    picks = np.linspace(0, len(truth['images']) - 1, min(count, len(truth['images'])))
    for record in (truth['images'][round(i)] for i in picks):
        image = cv2.imread(str(Path(images) / record['file_name']))
        if image is None:
            continue
        scale = WIDTH / image.shape[1]  # so that names are legible on small images
        true_boxes, found_boxes = (
            [entry for entry in entries if entry['image_id'] == record['id']]
            for entries in (truth['annotations'], predictions)
        )
        true, found = (_instances(boxes, labels, scale) for boxes in (true_boxes, found_boxes))
        found.scores = torch.tensor([entry['score'] for entry in found_boxes])
        ok, jpeg = cv2.imencode(
            '.jpg', drawing(cv2.resize(image, None, fx=scale, fy=scale), found, true)
        )
        if ok:
            yield Path(record['file_name']).stem, jpeg.tobytes()


def _instances(
    entries: Sequence[Mapping[str, Any]], labels: Mapping[int, int], scale: float
) -> InstanceData:
    boxes = scale * torch.tensor([entry['bbox'] for entry in entries]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    found = [labels[entry['category_id']] for entry in entries]
    return InstanceData(bboxes=boxes, labels=torch.tensor(found, dtype=torch.long))


def _figure(value: float | None) -> float | None:
    # pycocotools says -1, and the mean over nothing is not a number.
    return None if value is None or not value >= 0 else float(value)


def _percent(value: float | None) -> str:
    return '-' if value is None else f'{100 * value:.1f}'
