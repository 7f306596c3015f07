"""An image classifier: a backbone and a head, trained on mmengine's runner."""

from typing import Any

from mmdet.registry import MODELS
from mmengine.model import BaseModel
from torch import Tensor

from mmshuffle.pretrained import load, split_init_cfg


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """Backbone and classification head.

    A batch is a dictionary of ``inputs``, (N, 3, H, W), and ``data_samples``: class indices (N,) or
    soft targets (N, num_classes), as ``default_collate`` makes it of :class:`PackClassInputs`.

    A detector starts from a checkpoint of this model with
    ``init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone')``.

    Args:
        backbone: Config of a backbone; its last output goes to the head.
        head: Config of a head, such as :class:`LinearHead`.
        data_preprocessor: Config of the normalisation, such as :class:`BatchNormalizer`.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` fills backbone and head, with weights
            of any family that :func:`mmshuffle.weights.load_pretrained` knows.
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        self.head = MODELS.build(head)

    def forward(
        self, inputs: Tensor, data_samples: Tensor | None = None, mode: str = 'tensor'
    ) -> Tensor | dict[str, Tensor] | list[dict[str, Any]]:
        """Compute what ``mode`` asks for.

        Args:
            inputs: Normalised images, (N, 3, H, W).
            data_samples: Class indices, (N,), or soft targets, (N, num_classes).
            mode: ``'tensor'``, ``'loss'`` or ``'predict'``.

        Returns:
            The scores before the softmax, (N, num_classes); or ``{'loss': scalar}``; or for each
            image ``scores``, (num_classes,), and ``gt_label`` where labels are given.
        """
        features = self.backbone(inputs)
        if mode == 'tensor':
            return self.head(features)
        if mode == 'loss':
            return self.head.loss(features, data_samples)
        if mode == 'predict':
            found = [dict(scores=row) for row in self.head(features)]
            for sample, label in zip(found, () if data_samples is None else data_samples):
                sample['gt_label'] = label
            return found
        raise ValueError(f"mode={mode!r}: give 'tensor', 'loss' or 'predict'")

    def init_weights(self) -> None:
        """Initialise backbone and head; pretrained weights of the whole model come last."""
        pretrained, others = split_init_cfg(self.init_cfg)
        given, self.init_cfg = self.init_cfg, others or None
        super().init_weights()
        self.init_cfg = given
        for cfg in pretrained:
            load(self, cfg)
