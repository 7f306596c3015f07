"""Reading a JPEG's header without decoding it, and decoding no more of it than a crop needs."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

# By EXIF orientation (EXIF 2.32, tag 0x0112), what turns the stored image upright: swap the axes,
# then mirror top and bottom, then left and right.
TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
# Reduced sizes for which libjpeg-turbo has fast transforms; its k/8 between are slower than 1/1.
REDUCTIONS = (8, 4, 2)
CV2_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
# Colour of a pixel comes from its neighbours too where it is stored at a lower resolution.
COLOUR_MARGIN = 2


class Box(NamedTuple):
    """A part of an image, in pixels."""

    x: int
    y: int
    width: int
    height: int

    def reduced(self, reduction: int) -> 'Box':
        """The same part of the image at 1/``reduction`` of its size, to the nearest pixel."""
        ends = (self.x, self.y, self.x + self.width, self.y + self.height)
        # Halves always upwards, so that a shift by whole MCUs stays one.
        left, top, right, bottom = ((2 * end + reduction) // (2 * reduction) for end in ends)
        return Box(left, top, max(1, right - left), max(1, bottom - top))

    def of(self, image: np.ndarray) -> np.ndarray:
        """The part of an image, (H, W, C), as a view."""
        return image[self.y : self.y + self.height, self.x : self.x + self.width]


@dataclass(frozen=True)
class JpegHeader:
    """What the header of a JPEG says, with sizes as it is stored, before it is turned upright.

    Attributes:
        width: In pixels.
        height: In pixels.
        orientation: EXIF orientation, 1 to 8.
        mcu_width: Pixels that are coded together (ITU-T T.81, A.2).
        mcu_height: As ``mcu_width``.
        subsampled: Colour has a lower resolution than brightness.
        one_scan: Rows are coded one after the other: not progressive, colours interleaved.
        restart_interval: MCUs between restart markers; 0 without markers.
        size_at: Where in the file height and width are.
        scan_at: Where in the file the coded pixels begin.
    """

    width: int
    height: int
    orientation: int
    mcu_width: int
    mcu_height: int
    subsampled: bool
    one_scan: bool
    restart_interval: int
    size_at: int
    scan_at: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the upright image."""
        swap = TURNS[self.orientation][0]
        return (self.width, self.height) if swap else (self.height, self.width)

    def stored_box(self, box: Box) -> Box:
        """Where a part of the upright image is in the stored one."""
        swap, vertical, horizontal = TURNS[self.orientation]
        height, width = self.shape
        x = width - box.x - box.width if horizontal else box.x
        y = height - box.y - box.height if vertical else box.y
        return Box(y, x, box.height, box.width) if swap else Box(x, y, box.width, box.height)

    def upright(self, image: np.ndarray) -> np.ndarray:
        """Turn a part of the stored image, (H, W, C), upright."""
        swap, vertical, horizontal = TURNS[self.orientation]
        if swap:
            image = image.transpose(1, 0, 2)
        if vertical or horizontal:
            image = image[:: -1 if vertical else 1, :: -1 if horizontal else 1]
        return np.ascontiguousarray(image)

    def reduced_shape(self, reduction: int) -> tuple[int, int]:
        """Height and width of the stored image when decoded at 1/``reduction`` of its size."""
        return -(-self.height // reduction), -(-self.width // reduction)

    def with_size(self, data: bytes, height: int, width: int) -> bytes:
        """The file up to its coded pixels, with another size."""
        at = self.size_at
        return data[:at] + struct.pack('>HH', height, width) + data[at + 4 : self.scan_at]


def read_header(data: bytes) -> JpegHeader | None:
    """Read the header of a JPEG.

    Args:
        data: The file.

    Returns:
        None for other formats, damaged headers and what is best left to a general decoder: CMYK,
        more than 8 bits, lossless and arithmetic coding.
    """
    if data[:2] != b'\xff\xd8':
        return None
    try:
        return _read_segments(data)
    except (struct.error, IndexError):
        return None


def _read_segments(data: bytes) -> JpegHeader | None:
    at, orientation, restart_interval = 2, None, 0
    frame = None
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # any number of fill bytes may precede a marker
            at += 1
            continue
        (length,) = struct.unpack_from('>H', data, at + 2)
        if marker == 0xE1 and orientation is None:
            orientation = _read_orientation(data[at + 4 : at + 2 + length])
        elif marker == 0xDD:
            (restart_interval,) = struct.unpack_from('>H', data, at + 4)
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if marker > 0xC2 or frame is not None:
                return None
            frame = marker, at
        elif marker == 0xDA:
            if frame is None:
                return None
            scan = data[at + 4], at + 2 + length
            return _header(data, *frame, *scan, orientation or 1, restart_interval)
        at += 2 + length
    return None


def _header(
    data: bytes,
    marker: int,
    frame_at: int,
    scan_components: int,
    scan_at: int,
    orientation: int,
    restart_interval: int,
) -> JpegHeader | None:
    """Put together what a frame header (T.81, B.2.2) and the other segments say."""
    precision, height, width, components = struct.unpack_from('>BHHB', data, frame_at + 4)
    if precision != 8 or components not in (1, 3) or not height or not width:
        return None
    factors = [data[frame_at + 11 + 3 * i] for i in range(components)]
    horizontal, vertical = [f >> 4 for f in factors], [f & 15 for f in factors]
    if not all(1 <= f <= 4 for f in horizontal + vertical):
        return None
    # The MCU of a single component is one block whatever its factors are.
    single = components == 1
    return JpegHeader(
        width=width,
        height=height,
        orientation=orientation,
        mcu_width=8 if single else 8 * max(horizontal),
        mcu_height=8 if single else 8 * max(vertical),
        subsampled=len(set(factors)) > 1,
        one_scan=marker != 0xC2 and scan_components == components,
        restart_interval=restart_interval,
        size_at=frame_at + 5,
        scan_at=scan_at,
    )


def _read_orientation(segment: bytes) -> int | None:
    """Read the orientation from an APP1 segment; None where it holds none."""
    if segment[:6] != b'Exif\0\0':
        return None
    tiff = segment[6:]
    order = '<' if tiff[:2] == b'II' else '>'  # as OpenCV, whatever stands there
    try:
        magic, directory = struct.unpack_from(order + 'HI', tiff, 2)
        if magic != 42:
            return None
        (entries,) = struct.unpack_from(order + 'H', tiff, directory)
        for i in range(entries):
            tag, _, _, value = struct.unpack_from(order + 'HHIH', tiff, directory + 2 + 12 * i)
            if tag == 0x0112:
                return value if value in TURNS else None
    except struct.error:
        pass
    return None


def largest_reduction(box: Box, size: int) -> int:
    """The largest reduction at which a part still has ``size`` pixels a side; 1 for none."""
    side = min(box.width, box.height)
    return next((r for r in REDUCTIONS if side // r >= size), 1)


Decoder = Callable[[bytes, JpegHeader, Box, int], np.ndarray | None]


def decode_with_cv2(data: bytes, header: JpegHeader, box: Box, reduction: int) -> np.ndarray | None:
    """Decode a whole JPEG with OpenCV and cut a part out.

    Args:
        data: The file.
        header: Its header.
        box: The part, in pixels of the stored image at full size.
        reduction: 1, 2, 4 or 8: decode at this fraction of the size.

    Returns:
        The part as stored, uint8 (H, W, 3) in BGR order; None if it cannot be decoded.
    """
    flags = CV2_FLAGS[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None or image.shape[:2] != header.reduced_shape(reduction):
        return None
    return box.reduced(reduction).of(image)
