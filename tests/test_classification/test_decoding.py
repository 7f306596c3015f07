"""A JPEG's size is read from its header as OpenCV decodes it; see also test_random_resized_crop."""

import numpy as np
import pytest
from PIL import Image

from mmshuffle.classification.decoding import read_jpeg_size
from tests.test_classification.pictures import decode, jpeg, picture, with_orientation

PLAIN = jpeg(picture(70, 101))


@pytest.mark.parametrize(
    ('old', 'new'), [(b'MM\0*\0\0\0\x08', b'MM\0*\0\0\xff\x08'), (b'Exif', b'http')]
)
def test_damaged_orientations_are_passed_over_as_opencv_does(old, new):
    turned = with_orientation(PLAIN, 6)
    data = turned.replace(old, new)
    assert data != turned and read_jpeg_size(data) == decode(data).shape[:2] == (70, 101)


def test_what_is_left_to_general_decoders():
    assert read_jpeg_size(b'') is None
    assert read_jpeg_size(b'\x89PNG' + PLAIN) is None
    scan_at = PLAIN.index(b'\xff\xda')
    assert read_jpeg_size(PLAIN[:100]) is None
    rng = np.random.default_rng(0)
    for _ in range(300):  # must not raise, whatever it finds
        damaged = bytearray(PLAIN)
        damaged[int(rng.integers(2, scan_at))] = int(rng.integers(256))
        read_jpeg_size(bytes(damaged))


def test_a_header_too_large_to_decode_is_no_error(monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    assert read_jpeg_size(PLAIN) is None
