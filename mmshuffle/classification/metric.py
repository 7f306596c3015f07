"""Accuracy of a classifier."""

from collections.abc import Sequence

import torch
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric

from mmshuffle.errors import UserError


@METRICS.register_module()
class Accuracy(BaseMetric):
    """Share of images whose label is among the classes of the k highest scores, in percent.

    Args:
        topk: The values of k; ``accuracy/top1`` and so on are their figures.
    """

    default_prefix = 'accuracy'

    def __init__(self, topk: Sequence[int] = (1, 5), **kwargs) -> None:
        super().__init__(**kwargs)
        self.topk = tuple(topk)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Note the rank of each image's label, 0 for the highest score."""
        scores = torch.stack([sample['scores'] for sample in data_samples])
        labels = torch.stack([sample['gt_label'] for sample in data_samples])
        if not ((labels >= 0) & (labels < scores.shape[1])).all():
            raise UserError(
                f'labels from {labels.min()} to {labels.max()} for scores of {scores.shape[1]} '
                'classes: fix the labels, which count from 0, or num_classes of the head'
            )
        order = scores.argsort(dim=1, descending=True, stable=True)
        self.results += (order == labels[:, None]).int().argmax(1).tolist()

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        """Count the ranks below each k."""
        ranks = torch.tensor(results)
        return {f'top{k}': 100 * (ranks < k).double().mean().item() for k in self.topk}
