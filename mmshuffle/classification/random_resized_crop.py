"""Loading a random part of an image for training, decoding it no larger than needed."""

import io
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import cv2
import mmcv
import numpy as np
from mmcv.image.geometric import cv2_interp_codes
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS
from mmengine import fileio
from PIL import Image

from mmshuffle.data import LoadImage
from mmshuffle.data.pictures import ORIENTATION, SWAPS_SIDES

# Reduced sizes at which OpenCV decodes, the smallest first.
REDUCTIONS = {size: getattr(cv2, f'IMREAD_REDUCED_COLOR_{size}') for size in (8, 4, 2)}


class Box(NamedTuple):
    """A part of an image, in pixels."""

    x: int
    y: int
    width: int
    height: int

    def reduced(self, reduction: int) -> 'Box':
        """The same part of the image at 1/``reduction`` of its size, to the nearest pixel."""
        ends = (self.x, self.y, self.x + self.width, self.y + self.height)
        left, top, right, bottom = ((2 * end + reduction) // (2 * reduction) for end in ends)
        return Box(left, top, max(1, right - left), max(1, bottom - top))

    def of(self, image: np.ndarray) -> np.ndarray:
        """The part of an image, (H, W, C), as a view."""
        return image[self.y : self.y + self.height, self.x : self.x + self.width]


def read_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Read height and width of a JPEG from its header, turned upright by EXIF as OpenCV does.

    None for other formats and damaged headers.
    """
    if data[:2] != b'\xff\xd8':
        return None
    try:
        with Image.open(io.BytesIO(data), formats=['JPEG']) as image:
            width, height = image.size
            exif = Image.Exif()
            exif.load(image.info.get('exif', b''))
            swap = exif.get(ORIENTATION) in SWAPS_SIDES
    except Exception:  # Pillow raises what its parsers stumble over: SyntaxError, struct.error...
        return None
    return (width, height) if swap else (height, width)


def largest_reduction(box: Box, size: int) -> int:
    """The largest reduction at which a part still has ``size`` pixels a side; 1 for none."""
    side = min(box.width, box.height)
    return next((r for r in REDUCTIONS if side // r >= size), 1)


def decode_reduced(data: bytes, shape: tuple[int, int], reduction: int) -> np.ndarray | None:
    """Decode an image at a fraction of its size: to uint8 (H, W, 3) in BGR order, upright.

    None if it cannot be decoded or has another full size, height and width, than ``shape``.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), REDUCTIONS[reduction])
    expected = tuple(-(-side // reduction) for side in shape)
    return None if image is None or image.shape[:2] != expected else image


def draw_box(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Box:
    """Draw a part of an image as torchvision's ``RandomResizedCrop`` does.

    Its share of the area is uniform between the bounds ``scale``, the logarithm of width by height
    between those of ``ratio``, and its place is uniform. After ten parts that do not fit, the
    largest one in the middle whose ratio is within the bounds. Random numbers are NumPy's, which
    mmengine seeds in every worker.
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

    The part is drawn from the size in a JPEG's header. Where it has twice ``size`` pixels a side or
    more, the image is decoded at 1/2, 1/4 or 1/8 of its size: photographs of several megapixels
    gain most. Parts are those of decoding the whole image; pixels are too, but where it is decoded
    at a reduced size. Other formats are decoded whole.

    Args:
        size: Side of the result, in pixels.
        scale: Bounds of the part's share of the area.
        ratio: Bounds of its width by height.
        reduced: ``'auto'`` or False.
        interpolation: ``'nearest'``, ``'bilinear'``, ``'bicubic'``, ``'area'`` or ``'lanczos'``.
        max_unreadable: See :class:`mmshuffle.data.LoadImage`.
        backend_args: See ``mmcv.transforms.LoadImageFromFile``.

    Raises:
        ValueError: An argument is none of the allowed values.
    """

    def __init__(
        self,
        size: int = 224,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
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
        if reduced not in ('auto', False):
            raise ValueError(f"reduced={reduced!r}: give 'auto' or False")
        if interpolation not in cv2_interp_codes:
            raise ValueError(f'interpolation={interpolation!r}: give one of {[*cv2_interp_codes]}')
        self.size, self.scale, self.ratio = size, tuple(scale), tuple(ratio)
        self.reduced, self.interpolation = reduced, interpolation

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
        shape = read_jpeg_size(data) if self.reduced else None
        image, reduction = None, 1
        if shape is not None:
            box = self.draw(*shape)
            reduction = largest_reduction(box, self.size)
            image = decode_reduced(data, shape, reduction) if reduction > 1 else None
        if image is None:
            image = mmcv.imfrombytes(data, flag=self.color_type, backend=self.imdecode_backend)
            if image is None:
                return None
            reduction = 1
            if image.shape[:2] != shape:
                shape = image.shape[:2]
                box = self.draw(*shape)
        part, size = box.reduced(reduction).of(image), (self.size, self.size)
        results['img'] = mmcv.imresize(part, size, interpolation=self.interpolation, backend='cv2')
        results['img_shape'], results['ori_shape'] = size, shape
        return results
