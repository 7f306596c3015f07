"""Loading a random part of an image for training, decoding as little of the file as it needs."""

import math
from collections.abc import Sequence
from typing import Literal

import cv2
import mmcv
import numpy as np
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS
from mmengine import fileio

from mmshuffle.data import LoadImage

from . import restart
from .decoding import Box, JpegHeader, decode_with_cv2, largest_reduction, read_header
from .turbojpeg import load_turbojpeg

INTERPOLATIONS = {
    'nearest': cv2.INTER_NEAREST,
    'bilinear': cv2.INTER_LINEAR,
    'bicubic': cv2.INTER_CUBIC,
    'area': cv2.INTER_AREA,
    'lanczos': cv2.INTER_LANCZOS4,
}


def draw_box(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Box:
    """Draw a part of an image as torchvision's ``RandomResizedCrop`` does.

    Its share of the area is uniform in ``scale``, the logarithm of width by height is uniform, and
    so is its place. After ten parts that do not fit, the largest one in the middle whose ratio is
    within the bounds. Random numbers are NumPy's, which mmengine seeds in every worker.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        scale: Bounds of the share of the area.
        ratio: Bounds of width by height.

    Returns:
        The part.
    """
    lowest, highest = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        area = height * width * np.random.uniform(*scale)
        aspect = math.exp(np.random.uniform(lowest, highest))
        part_width, part_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < part_width <= width and 0 < part_height <= height:
            x = np.random.randint(0, width - part_width + 1)
            y = np.random.randint(0, height - part_height + 1)
            return Box(x, y, part_width, part_height)
    part_width = min(width, round(height * ratio[1]))
    part_height = min(height, round(width / ratio[0]))
    return Box((width - part_width) // 2, (height - part_height) // 2, part_width, part_height)


@TRANSFORMS.register_module()
class LoadRandomResizedCrop(LoadImage):
    """Loads a random part of an image, resized: ``LoadImage`` and ``RandomResizedCrop`` in one.

    The part is drawn from the size in a JPEG's header, so that what does not belong to it need not
    be decoded. Parts and pixels are those of decoding the whole image, but for rounding where it
    is decoded at a reduced size. What makes loading faster:

    * ``reduced='auto'`` decodes at 1/2, 1/4 or 1/8 of the size where the part still has ``size``
      pixels a side: photographs of several megapixels gain most;
    * ``backend='turbojpeg'`` decodes no row below the part and, from version 3 of the library on,
      no column beside it;
    * of a JPEG with restart markers only the intervals that the part touches are read, with both
      backends (:mod:`mmshuffle.classification.restart`).

    Other formats, and JPEGs with CMYK or more than 8 bits, are decoded whole.

    Args:
        size: Side of the result, in pixels.
        scale: Bounds of the part's share of the area.
        ratio: Bounds of its width by height.
        backend: ``'cv2'`` or ``'turbojpeg'``.
        reduced: ``'auto'`` or False.
        interpolation: ``'nearest'``, ``'bilinear'``, ``'bicubic'``, ``'area'`` or ``'lanczos'``.
        max_unreadable: See :class:`mmshuffle.data.LoadImage`.
        backend_args: See ``mmcv.transforms.LoadImageFromFile``.

    Raises:
        ValueError: An argument is none of the allowed values.
        UserError: ``backend='turbojpeg'`` and the library is absent; more images than
            ``max_unreadable`` could not be read.
    """

    def __init__(
        self,
        size: int = 224,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        backend: Literal['cv2', 'turbojpeg'] = 'cv2',
        reduced: Literal['auto', False] = 'auto',
        interpolation: str = 'bilinear',
        max_unreadable: int = 0,
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(max_unreadable=max_unreadable, backend_args=backend_args)
        if not isinstance(size, int) or size < 1:
            raise ValueError(f'size={size!r}: give the side in pixels, an integer of at least 1')
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f'scale={scale!r}: give two ascending shares above 0, at most 1')
        if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f'ratio={ratio!r}: give two ascending numbers above 0')
        if backend not in ('cv2', 'turbojpeg'):
            raise ValueError(f"backend={backend!r}: give 'cv2' or 'turbojpeg'")
        if reduced not in ('auto', False):
            raise ValueError(f"reduced={reduced!r}: give 'auto' or False")
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f'interpolation={interpolation!r}: give one of {[*INTERPOLATIONS]}')
        if backend == 'turbojpeg':
            load_turbojpeg()  # to say at once that it is absent
        self.size, self.scale, self.ratio = size, tuple(scale), tuple(ratio)
        self.backend, self.reduced, self.interpolation = backend, reduced, interpolation

    @cache_randomness
    def draw(self, height: int, width: int) -> Box:
        """Draw the part for an image of a size, in pixels."""
        return draw_box(height, width, self.scale, self.ratio)

    def load(self, results: dict) -> dict | None:
        """Load ``results['img_path']``.

        Returns:
            ``results`` with ``img``, uint8 (size, size, 3) in BGR order, ``img_shape`` and
            ``ori_shape``, (height, width) of the upright image; None if unreadable.
        """
        data = fileio.get(results['img_path'], backend_args=self.backend_args)
        header = read_header(data)
        loaded = self._load_whole(data) if header is None else self._load_part(data, header)
        if loaded is None:
            return None
        results['img'], results['ori_shape'] = loaded
        results['img_shape'] = results['img'].shape[:2]
        return results

    def _load_whole(self, data: bytes) -> tuple[np.ndarray, tuple[int, int]] | None:
        image = mmcv.imfrombytes(data, flag=self.color_type, backend=self.imdecode_backend)
        if image is None:
            return None
        return self._resize(self.draw(*image.shape[:2]).of(image)), image.shape[:2]

    def _load_part(
        self, data: bytes, header: JpegHeader
    ) -> tuple[np.ndarray, tuple[int, int]] | None:
        box = header.stored_box(self.draw(*header.shape))
        reduction = largest_reduction(box, self.size) if self.reduced else 1
        shorter = restart.cut(data, header, box)
        part = None
        if self.backend == 'turbojpeg':
            part = load_turbojpeg().decode(*shorter, reduction)
        if part is None:
            # What libturbojpeg complains of may still be good enough for OpenCV.
            part = decode_with_cv2(*shorter, reduction)
        return None if part is None else (header.upright(self._resize(part)), header.shape)

    def _resize(self, part: np.ndarray) -> np.ndarray:
        interpolation = INTERPOLATIONS[self.interpolation]
        return cv2.resize(part, (self.size, self.size), interpolation=interpolation)
