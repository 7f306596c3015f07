"""What a person wants to see after a training run: figures, curves and pictures with boxes."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

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
PANEL = 640
BAR = 28
FONT = cv2.FONT_HERSHEY_SIMPLEX


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
    """Plot loss and AP over epochs.

    Args:
        history: Records of :class:`mmshuffle.engine.progress.HistoryHook`.
        title: Printed above.

    Returns:
        A PNG file.
    """
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


def draw_predictions(
    truth: Mapping[str, Any],
    predictions: Sequence[Mapping[str, Any]],
    images: str | Path,
    count: int = 8,
    min_score: float = 0.3,
) -> Iterator[tuple[str, bytes]]:
    """Draw true boxes on the left and predicted ones on the right of some images.

    Args:
        truth: A COCO annotation file.
        predictions: COCO results: ``image_id``, ``category_id``, ``bbox`` and ``score``.
        images: Folder of the images.
        count: Number of images, spread evenly over those of ``truth``.
        min_score: Predictions below are left out.

    Yields:
        The name of each image without its ending, and the picture as JPEG.
    """
    categories = sorted(category['id'] for category in truth['categories'])
    names = {category['id']: category['name'] for category in truth['categories']}
    colours = dict(zip(categories, _palette(len(categories))))
    true_boxes, predicted_boxes = defaultdict(list), defaultdict(list)
    for annotation in truth['annotations']:
        true_boxes[annotation['image_id']].append(annotation)
    for prediction in predictions:
        if prediction['score'] >= min_score:
            predicted_boxes[prediction['image_id']].append(prediction)

    picks = np.linspace(0, len(truth['images']) - 1, min(count, len(truth['images'])))
    for record in (truth['images'][round(i)] for i in picks):
        image = cv2.imread(str(Path(images) / record['file_name']))
        if image is None:
            continue
        left = _panel(image, true_boxes[record['id']], names, colours, 'true boxes')
        title = f'predicted boxes, score >= {min_score:g}'
        right = _panel(image, predicted_boxes[record['id']], names, colours, title)
        gap = np.full((len(left), 6, 3), 255, np.uint8)
        ok, jpeg = cv2.imencode('.jpg', np.hstack([left, gap, right]))
        if ok:
            yield Path(record['file_name']).stem, jpeg.tobytes()


def _panel(
    image: np.ndarray,
    boxes: Sequence[Mapping[str, Any]],
    names: Mapping[int, str],
    colours: Mapping[int, tuple[int, int, int]],
    title: str,
) -> np.ndarray:
    scale = PANEL / max(image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    panel = cv2.resize(image, None, fx=scale, fy=scale, interpolation=method)
    # Certain boxes last, on top.
    for box in sorted(boxes, key=lambda item: item.get('score', 1)):
        colour = colours[box['category_id']]
        x, y, width, height = (scale * value for value in box['bbox'])
        corners = (round(x), round(y)), (round(x + width), round(y + height))
        cv2.rectangle(panel, *corners, colour, 2)
        text = names[box['category_id']]
        if 'score' in box:
            text += f' {box["score"]:.2f}'
        _label(panel, text, corners[0], colour)
    bar = np.full((BAR, panel.shape[1], 3), 255, np.uint8)
    cv2.putText(bar, title, (6, BAR - 9), FONT, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([bar, panel])


def _label(
    panel: np.ndarray, text: str, corner: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    """Write on a coloured ground, above a box or, at the upper border, inside it."""
    (width, height), base = cv2.getTextSize(text, FONT, 0.45, 1)
    x = max(0, min(corner[0], panel.shape[1] - width - 4))
    y = corner[1] if corner[1] >= height + base + 2 else corner[1] + height + base + 2
    cv2.rectangle(panel, (x, y - height - base - 2), (x + width + 4, y), colour, cv2.FILLED)
    dark = sum(colour) > 380
    ink = (0, 0, 0) if dark else (255, 255, 255)
    cv2.putText(panel, text, (x + 2, y - base), FONT, 0.45, ink, 1, cv2.LINE_AA)


def _palette(count: int) -> list[tuple[int, int, int]]:
    """Return ``count`` BGR colours that differ in hue."""
    hsv = np.array([[[180 * i / count, 210, 255 - 60 * (i % 2)] for i in range(count)]], np.uint8)
    return [tuple(map(int, colour)) for colour in cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0]]


def _figure(value: float | None) -> float | None:
    # pycocotools says -1, and the mean over nothing is not a number.
    return None if value is None or not value >= 0 else float(value)


def _percent(value: float | None) -> str:
    return '-' if value is None else f'{100 * value:.1f}'
