"""How sure a difference of AP is: a paired bootstrap over test images and training seeds."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tqdm import tqdm

from mmshuffle.data.annotations import read_annotations
from mmshuffle.errors import UserError

FIGURES = ('coco/bbox_mAP', 'coco/bbox_mAP_50')  # what an interval can be had of, in this order


class Interval(NamedTuple):
    """A difference of means, and where 95 % of the draws put it, in points from -1 to 1."""

    mean: float
    low: float
    high: float


def read_truth(path: str | Path) -> COCO:
    """Read the annotations of boxes."""
    truth = COCO()
    truth.dataset = read_annotations(path, masks=False)
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


class Boxes:
    """The boxes that trained networks found on the same images, one file a seed.

    Args:
        truth: Annotations of the images.
        categories: Ids of the categories that the networks know.
        files: COCO results of boxes, as :class:`mmdet.evaluation.CocoMetric` writes them.

    Raises:
        UserError: A file is missing or cut off, or has no box, or boxes of other images.
    """

    def __init__(self, truth: COCO, categories: Sequence[int], files: Sequence[Path]) -> None:
        self._evaluations = [_evaluate(truth, categories, file) for file in files]
        self._matches = [evaluation.evalImgs for evaluation in self._evaluations]
        self.images = len(truth.imgs)

    def figures(self, chosen: np.ndarray) -> np.ndarray:
        """AP and AP50 of every seed, of shape (seeds, 2), on the chosen images.

        Args:
            chosen: Places of images in the order of their ids, of shape (images,); one may be
                chosen several times.
        """
        found = []
        for evaluation, matches in zip(self._evaluations, self._matches):
            by_category = [
                matches[i : i + self.images] for i in range(0, len(matches), self.images)
            ]
            evaluation.evalImgs = [row[place] for row in by_category for place in chosen]
            with contextlib.redirect_stdout(io.StringIO()):
                evaluation.accumulate()
            precision = evaluation.eval['precision'][..., 0, 0]  # thresholds, recalls, categories
            # A category without an object among the chosen images has -1 everywhere.
            known = precision[:, :, (precision > -1).all((0, 1))]
            found.append((known.mean(), known[0].mean()) if known.size else (0.0, 0.0))
        return np.array(found)


def differences(first: Boxes, second: Boxes, draws: int = 1000, seed: int = 0) -> list[Interval]:
    """By how much ``second`` is better than ``first``: an interval for each of :data:`FIGURES`.

    Every draw takes as many images as there are, with replacement and the same for both, and as
    many seeds as each has, with replacement; the interval is from the 2.5th to the 97.5th
    percentile of the difference of the means.
    """
    random = np.random.default_rng(seed)

    def drawn() -> Iterator[np.ndarray]:
        for _ in tqdm(range(draws), desc='bootstrap', leave=False):
            chosen = random.integers(first.images, size=first.images)
            means = []
            for boxes in (first, second):
                figures = boxes.figures(chosen)
                means.append(figures[random.integers(len(figures), size=len(figures))].mean(0))
            yield means[1] - means[0]

    everything = np.arange(first.images)
    observed = second.figures(everything).mean(0) - first.figures(everything).mean(0)
    low, high = np.percentile(list(drawn()), (2.5, 97.5), axis=0)
    return [Interval(*map(float, row)) for row in zip(observed, low, high)]


def _evaluate(truth: COCO, categories: Sequence[int], file: Path) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            found = truth.loadRes(str(file))
        except (OSError, ValueError) as error:
            raise UserError(f'{file} cannot be read: test anew ({error})') from None
        except (IndexError, AssertionError, KeyError, TypeError):
            raise UserError(
                f'{file} has no boxes on images of the test set: the network finds nothing, or '
                'was tested on another set'
            ) from None
        evaluation = COCOeval(truth, found, 'bbox')
        evaluation.params.catIds = list(categories)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ['all']
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
    return evaluation
