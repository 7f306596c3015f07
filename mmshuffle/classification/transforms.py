"""Transforms of images with a label, beyond those of mmcv and MMDetection."""

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ColorJitter(BaseTransform):
    """Changes brightness, contrast and saturation by random factors, in random order.

    As in the training of ResNet and ResNeXt by fb.resnet.torch, which the ShuffleNet papers follow
    (V1, section 4): a factor is drawn from 1 - a to 1 + a; the image is blended with black, with
    the mean of its grey version, or with that version.
    """

    def __init__(
        self, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4
    ) -> None:
        self.strengths = dict(brightness=brightness, contrast=contrast, saturation=saturation)
        for name, value in self.strengths.items():
            if not 0 <= value <= 1:
                raise ValueError(f'{name}={value!r} of ColorJitter: give a number from 0 to 1')

    def transform(self, results: dict) -> dict:
        """Change ``results['img']``, uint8 (H, W, 3) in BGR order."""
        image, names = results['img'], list(self.strengths)
        for index in np.random.permutation(len(names)):
            if strength := self.strengths[names[index]]:
                image = _blend(image, names[index], np.random.uniform(1 - strength, 1 + strength))
        results['img'] = image
        return results


def _blend(image: np.ndarray, kind: str, factor: float) -> np.ndarray:
    grey = None if kind == 'brightness' else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if kind == 'saturation':
        return cv2.addWeighted(image, factor, cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), 1 - factor, 0)
    mean = cv2.mean(grey)[0] if kind == 'contrast' else 0
    table = np.arange(256) * factor + (1 - factor) * mean + 0.5
    return cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8))


@TRANSFORMS.register_module()
class PackClassInputs(BaseTransform):
    """Makes what a classifier's dataloader stacks: ``inputs`` and ``data_samples``.

    Pixels stay uint8, a quarter of the bytes; the model's ``data_preprocessor`` normalises them on
    its device.
    """

    def transform(self, results: dict) -> dict:
        """Turn ``img``, (H, W, 3), into (3, H, W), and ``gt_label`` into a tensor."""
        image = np.ascontiguousarray(results['img'])
        planes = np.empty((image.shape[2], *image.shape[:2]), image.dtype)
        cv2.split(image, list(planes))  # several times as fast as NumPy's copy of a transposed view
        return dict(
            inputs=torch.from_numpy(planes), data_samples=torch.as_tensor(results['gt_label'])
        )
