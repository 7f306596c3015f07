"""Headers are read right, and a part that is decoded alone is that part of the whole image."""

import ctypes
import dataclasses

import numpy as np
import pytest

from mmshuffle.classification import turbojpeg
from mmshuffle.classification.decoding import (
    Box,
    decode_with_cv2,
    largest_reduction,
    read_header,
)
from mmshuffle.errors import UserError
from tests.conftest import facts
from tests.test_classification.pictures import (
    SAMPLINGS,
    decode,
    jpeg,
    picture,
    with_orientation,
)

BOXES = (Box(0, 0, 120, 90), Box(17, 9, 64, 41), Box(150, 101, 51, 34), Box(96, 64, 1, 1))


@pytest.fixture
def library():
    try:
        return turbojpeg.load_turbojpeg()
    except UserError as error:
        pytest.skip(str(error))


def test_header_has_what_decoders_need():
    data = jpeg(picture(70, 101), '4:2:0', interval=4)
    header = read_header(data)
    assert (header.height, header.width, header.shape) == (70, 101, (70, 101))
    assert (header.mcu_width, header.mcu_height, header.subsampled) == (16, 16, True)
    assert header.one_scan and header.restart_interval == 4
    assert data[header.scan_at - 3 : header.scan_at] == b'\x00\x3f\x00'  # ends a baseline scan's
    header = read_header(jpeg(picture(70, 101), '4:2:2'))
    assert (header.mcu_width, header.mcu_height, header.restart_interval) == (16, 8, 0)
    assert not read_header(jpeg(picture(70, 101), '4:4:4')).subsampled
    assert not read_header(jpeg(picture(70, 101), progressive=True)).one_scan
    grey = read_header(jpeg(picture(70, 101, channels=1)))
    assert (grey.mcu_width, grey.mcu_height, grey.subsampled) == (8, 8, False)


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_parts_are_turned_upright_as_opencv_does(orientation, order):
    data = with_orientation(jpeg(picture(70, 101)), orientation, order)
    header = read_header(data)
    upright = decode(data)
    assert header.orientation == orientation and header.shape == upright.shape[:2]
    box = Box(11, 23, 40, 37)
    part = decode_with_cv2(data, header, header.stored_box(box), 1)
    np.testing.assert_array_equal(header.upright(part), box.of(upright))


def test_bad_orientations_are_passed_over_as_opencv_does():
    plain = jpeg(picture(70, 101))
    turned = with_orientation(plain, 6)
    for data in (
        with_orientation(plain, 9),
        turned.replace(b'MM\0*', b'MM\0+'),
        turned.replace(b'MM\0*\0\0\0\x08', b'MM\0*\0\0\xff\x08'),  # beyond the segment's end
    ):
        assert data != turned
        assert read_header(data).shape == decode(data).shape[:2] == (70, 101)
    # Of several the first counts, also behind another kind of segment.
    first = with_orientation(with_orientation(plain, 1), 6)
    for data in (first, first[:2] + b'\xff\xe1\x00\x06http' + first[2:]):
        assert read_header(data).shape == decode(data).shape[:2] == (101, 70)


def test_what_is_left_to_general_decoders():
    data = jpeg(picture(70, 101))
    at = read_header(data).size_at
    assert read_header(b'') is None
    assert read_header(b'\x89PNG' + data) is None
    assert read_header(data[: at - 1] + b'\x0c' + data[at:]) is None  # 12 bits a sample
    assert read_header(data[: at - 4] + b'\xc9' + data[at - 3 :]) is None  # arithmetic coding
    assert read_header(data[: at + 4] + b'\x04' + data[at + 5 :]) is None  # four components
    assert read_header(data[:at] + b'\0\0' + data[at + 2 :]) is None  # no height


def test_damaged_headers_are_no_headers():
    data = jpeg(picture(70, 101))
    scan_at = read_header(data).scan_at
    for end in range(scan_at - 10):
        assert read_header(data[:end]) is None
    rng = np.random.default_rng(0)
    for _ in range(300):  # must not raise, whatever it finds
        damaged = bytearray(data)
        damaged[int(rng.integers(2, scan_at))] = int(rng.integers(256))
        read_header(bytes(damaged))


def test_reduction_leaves_enough_pixels():
    assert largest_reduction(Box(0, 0, 447, 4000), 224) == 1
    assert largest_reduction(Box(0, 0, 448, 4000), 224) == 2
    assert largest_reduction(Box(0, 0, 4000, 896), 224) == 4
    assert largest_reduction(Box(0, 0, 4000, 4000), 224) == 8


def test_reduced_parts_are_the_nearest_and_move_by_whole_mcus():
    assert Box(3, 6, 10, 9).reduced(4) == Box(1, 2, 2, 2)
    assert Box(0, 0, 1, 1).reduced(8) == Box(0, 0, 1, 1)
    for x in range(16):
        for width in range(1, 12):
            near, far = Box(x, 0, width, 9).reduced(4), Box(x + 24, 0, width, 9).reduced(4)
            assert (far.x - near.x, far.width) == (6, near.width)


def test_a_header_that_does_not_match_is_refused():
    data = jpeg(picture(70, 101))
    other = dataclasses.replace(read_header(data), height=90)
    assert decode_with_cv2(data, other, Box(0, 0, 20, 85), 1) is None


@pytest.mark.parametrize('reduction', [1, 2, 4])
@pytest.mark.parametrize('kind', [*SAMPLINGS, 'grey', 'progressive', 'markers'])
def test_turbojpeg_decodes_what_opencv_does(library, kind, reduction):
    image = picture(135, 201, channels=1 if kind == 'grey' else 3)
    sampling = kind if kind in SAMPLINGS else '4:2:0'
    data = jpeg(image, sampling, 5 * (kind == 'markers'), kind == 'progressive')
    header = read_header(data)
    for box in BOXES:
        expected = decode_with_cv2(data, header, box, reduction)
        found = library.decode(data, header, box, reduction)
        # Builds of libjpeg may round differently.
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).max() <= 2


def test_turbojpeg_decodes_photographs_as_opencv_does(library):
    for path in sorted(facts('data/coco_mini/val2017').iterdir())[:12]:
        data = path.read_bytes()
        header = read_header(data)
        box = Box(header.width // 3, header.height // 5, header.width // 2, header.height // 2)
        found = library.decode(data, header, box, 1)
        expected = decode_with_cv2(data, header, box, 1)
        assert np.abs(found.astype(int) - expected).max() <= 2


def test_turbojpeg_complains_of_damage_in_the_part(library):
    data = jpeg(picture(135, 201), '4:4:4')
    header = read_header(data)
    middle = (header.scan_at + len(data)) // 2
    damaged = data[:middle]
    assert library.decode(damaged, header, Box(20, 20, 150, 110), 1) is None
    broken = data[:middle] + b'\xff\xc4\x00\x05' + data[middle:]
    assert library.decode(broken, header, Box(20, 20, 150, 110), 1) is None
    # The complaint is the same as that of the rows that are left out below a part.
    marked = jpeg(picture(135, 201), '4:4:4', interval=7)
    marker = marked.index(b'\xff\xd1', header.scan_at)
    extraneous = marked[:marker] + b'123456' + marked[marker:]
    header = read_header(extraneous)
    assert library.decode(marked, header, Box(20, 20, 150, 60), 1) is not None
    assert library.decode(extraneous, header, Box(20, 20, 150, 60), 1) is None


def test_absent_library_is_named_with_its_package(monkeypatch):
    def absent(name):
        raise OSError(f'{name}: cannot open shared object file')

    monkeypatch.setattr(ctypes, 'CDLL', absent)
    turbojpeg.load_turbojpeg.cache_clear()
    try:
        with pytest.raises(UserError, match='apt-get install libturbojpeg0') as caught:
            turbojpeg.load_turbojpeg()
    finally:
        turbojpeg.load_turbojpeg.cache_clear()
    assert '\n' not in str(caught.value)
