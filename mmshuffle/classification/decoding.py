"""Reading a JPEG's size without decoding it, and decoding it no larger than a crop needs."""

import io
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

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
