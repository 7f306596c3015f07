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
        for name, value in dict(
            brightness=brightness, contrast=contrast, saturation=saturation
        ).items():
            if not 0 <= value <= 1:
                raise ValueError(f'{name}={value!r} of ColorJitter: give a number from 0 to 1')
        self.strengths = (brightness, contrast, saturation)

    def transform(self, results: dict) -> dict:
        """Change ``results['img']``, uint8 (H, W, 3) in BGR order."""
        image = results['img']
        steps = (_brightness, _contrast, _saturation)
        for index in np.random.permutation(len(steps)):
            strength = self.strengths[index]
            if strength:
                image = steps[index](image, np.random.uniform(1 - strength, 1 + strength))
        results['img'] = image
        return results


def _brightness(image: np.ndarray, factor: float) -> np.ndarray:
    return cv2.LUT(image, _table(factor, 0.0))


def _contrast(image: np.ndarray, factor: float) -> np.ndarray:
    mean = cv2.mean(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))[0]
    return cv2.LUT(image, _table(factor, (1 - factor) * mean))


def _saturation(image: np.ndarray, factor: float) -> np.ndarray:
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return cv2.addWeighted(image, factor, grey, 1 - factor, 0)


def _table(factor: float, offset: float) -> np.ndarray:
    return np.clip(np.arange(256) * factor + offset + 0.5, 0, 255).astype(np.uint8)


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
