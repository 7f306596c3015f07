"""libturbojpeg, where the system has it: decodes rows and columns of a part only."""

import ctypes
import functools

import numpy as np

from mmshuffle.errors import UserError

from .decoding import COLOUR_MARGIN, Box, JpegHeader

LIBRARIES = (
    'libturbojpeg.so.0',
    'libturbojpeg.dylib',
    'turbojpeg.dll',
    '/opt/libjpeg-turbo/lib64/libturbojpeg.so.0',  # where the project's own packages put it
    '/opt/homebrew/opt/jpeg-turbo/lib/libturbojpeg.dylib',
    '/usr/local/opt/jpeg-turbo/lib/libturbojpeg.dylib',
)
# Constants of turbojpeg.h.
PIXELS_BGR = 1
STOP_ON_WARNING = 8192
PARAMETER_STOP_ON_WARNING = 0


class _Fraction(ctypes.Structure):
    _fields_ = [('numerator', ctypes.c_int), ('denominator', ctypes.c_int)]


class _Region(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ('x', 'y', 'width', 'height')]


class TurboJpeg:
    """Decoding of a part of a JPEG with libturbojpeg.

    Version 3 (``tj3SetCroppingRegion``) reads the code above the part, nothing below it, and
    computes the part's columns only. Version 2 decodes all rows down to the end of the part.

    Args:
        library: The loaded library.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.crops = hasattr(library, 'tj3SetCroppingRegion')
        handle, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
        signatures = {
            'tjInitDecompress': (handle,),
            'tjDestroy': (number, handle),
            'tjGetErrorStr2': (ctypes.c_char_p, handle),
            'tjDecompress2': (
                *(number, handle, ctypes.c_char_p, ctypes.c_ulong, handle),
                *(number, number, number, number, number),
            ),
        }
        if self.crops:
            signatures |= {
                'tj3Set': (number, handle, number, number),
                'tj3DecompressHeader': (number, handle, ctypes.c_char_p, size),
                'tj3SetScalingFactor': (number, handle, _Fraction),
                'tj3SetCroppingRegion': (number, handle, _Region),
                'tj3Decompress8': (
                    *(number, handle, ctypes.c_char_p, size, handle, number, number),
                ),
            }
        for name, (result, *arguments) in signatures.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments

    def decode(
        self, data: bytes, header: JpegHeader, box: Box, reduction: int
    ) -> np.ndarray | None:
        """As :func:`mmshuffle.classification.decoding.decode_with_cv2`; None for any complaint."""
        handle = self._library.tjInitDecompress()
        if not handle:
            return None
        try:
            decode = self._decode_region if self.crops else self._decode_rows
            return decode(handle, data, header, box, reduction)
        finally:
            self._library.tjDestroy(handle)

    def _decode_region(
        self, handle: int, data: bytes, header: JpegHeader, box: Box, reduction: int
    ) -> np.ndarray | None:
        library = self._library
        margin = COLOUR_MARGIN if header.subsampled else 0
        height, width = header.reduced_shape(reduction)
        part = box.reduced(reduction)
        # The left edge of what is decoded must lie between two MCUs.
        step = header.mcu_width // reduction
        left = max(0, part.x - margin) // step * step
        right = min(width, part.x + part.width + margin)
        top = max(0, part.y - margin)
        bottom = min(height, part.y + part.height + margin)
        pixels = np.empty((bottom - top, right - left, 3), np.uint8)
        failed = (
            library.tj3Set(handle, PARAMETER_STOP_ON_WARNING, 1)
            or library.tj3DecompressHeader(handle, data, len(data))
            or library.tj3SetScalingFactor(handle, _Fraction(1, reduction))
            or library.tj3SetCroppingRegion(handle, _Region(left, top, right - left, bottom - top))
            or library.tj3Decompress8(
                handle, data, len(data), pixels.ctypes.data, pixels.strides[0], PIXELS_BGR
            )
        )
        if failed:
            return None
        return part._replace(x=part.x - left, y=part.y - top).of(pixels)

    def _decode_rows(
        self, handle: int, data: bytes, header: JpegHeader, box: Box, reduction: int
    ) -> np.ndarray | None:
        rows = header.height
        if header.one_scan and not header.restart_interval:
            end = box.y + box.height + (COLOUR_MARGIN if header.subsampled else 0)
            rows = min(rows, -(-end // header.mcu_height) * header.mcu_height)
        shortened = rows < header.height
        if shortened:
            # The decoder stops where the header says that the image ends.
            data = header.with_size(data, rows, header.width) + data[header.scan_at :]
        height, width = -(-rows // reduction), header.reduced_shape(reduction)[1]
        pixels = np.empty((height, width, 3), np.uint8)
        arguments = (width, pixels.strides[0], height, PIXELS_BGR, STOP_ON_WARNING)
        failed = self._library.tjDecompress2(
            handle, data, len(data), pixels.ctypes.data, *arguments
        )
        if failed and not (shortened and self._complains_of_the_rest(handle)):
            return None
        return box.reduced(reduction).of(pixels)

    def _complains_of_the_rest(self, handle: int) -> bool:
        """Tell whether all that is wrong is the code of the rows that were left out."""
        return b'extraneous bytes before marker' in self._library.tjGetErrorStr2(handle)


@functools.cache
def load_turbojpeg() -> TurboJpeg:
    """Load libturbojpeg.

    Raises:
        UserError: It is not there.
    """
    for name in LIBRARIES:
        try:
            return TurboJpeg(ctypes.CDLL(name))
        except (OSError, AttributeError):
            continue
    raise UserError(
        "backend='turbojpeg' needs libturbojpeg, which is not there: apt-get install libturbojpeg0 "
        "(brew install jpeg-turbo), or leave backend='cv2'"
    )
