"""Random parts of images are those of decoding all of it, and none is lost or made up."""

import struct

import cv2
import numpy as np
import pytest
from mmcv.transforms.utils import cache_random_params
from PIL import Image

from mmshuffle.classification import random_resized_crop
from mmshuffle.classification.random_resized_crop import (
    Box,
    LoadRandomResizedCrop,
    draw_box,
    read_jpeg_size,
)
from mmshuffle.data import LoadImage
from tests.conftest import refused

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
SAMPLINGS = {k: getattr(cv2, f'IMWRITE_JPEG_SAMPLING_FACTOR_{k}') for k in ('444', '422', '420')}


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Coloured patches with some noise: shifting it by a pixel changes it much."""
    rng = np.random.default_rng(height * width)
    patches = rng.integers(0, 256, (height // 12 + 1, width // 12 + 1, channels), dtype=np.uint8)
    large = cv2.resize(patches, (width, height), interpolation=cv2.INTER_NEAREST)
    noise = rng.integers(-12, 12, (height, width, channels))
    return np.clip(large.reshape(noise.shape) + noise, 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, sampling: str = '420', progressive: bool = False) -> bytes:
    options = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLINGS[sampling]]
    options += [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    return cv2.imencode('.jpg', image, options)[1].tobytes()


def with_orientation(data: bytes, orientation: int, order: str = '>') -> bytes:
    """Insert an EXIF segment with an orientation behind another tag."""
    tiff = {'>': b'MM', '<': b'II'}[order] + struct.pack(order + 'HIH', 42, 8, 2)
    tiff += struct.pack(order + 'HHIHH', 0x0100, 3, 1, 77, 0)
    tiff += struct.pack(order + 'HHIHH', 0x0112, 3, 1, orientation, 0) + bytes(4)
    segment = b'Exif\0\0' + tiff
    return data[:2] + b'\xff\xe1' + struct.pack('>H', len(segment) + 2) + segment + data[2:]


def straightforward(path, size, interpolation=cv2.INTER_LINEAR, scale=SCALE):
    image = LoadImage()(dict(img_path=str(path)))['img']
    box = draw_box(*image.shape[:2], scale, RATIO)
    return cv2.resize(box.of(image), (size, size), interpolation=interpolation)


def write(path, data):
    path.write_bytes(data)
    return path


def test_parts_are_drawn_uniformly():
    np.random.seed(0)
    size, scale = 2000, (0.1, 0.4)
    boxes = np.array([draw_box(size, size, scale, RATIO) for _ in range(4000)])
    x, y, width, height = boxes.T
    # A sample of 4000 has its quantiles within 0.03 of a uniform distribution's.
    for values in (
        (width * height / size**2 - scale[0]) / (scale[1] - scale[0]),
        np.log(width / height) / np.log(RATIO[1]) / 2 + 0.5,
        x / (size - width),
        y / (size - height),
    ):
        quantiles = np.quantile(values, [0.1, 0.3, 0.5, 0.7, 0.9])
        np.testing.assert_allclose(quantiles, [0.1, 0.3, 0.5, 0.7, 0.9], atol=0.03)


def test_parts_lie_inside_and_fall_back_to_the_middle():
    np.random.seed(0)
    for height, width in ((30, 40), (7, 300), (300, 7), (1, 1)):
        for _ in range(200):
            box = draw_box(height, width, SCALE, RATIO)
            assert min(box.x, box.y) >= 0 and min(box.width, box.height) >= 1
            assert box.x + box.width <= width and box.y + box.height <= height
    # All of the area at a ratio that does not fit: the largest part that has the nearest ratio.
    assert draw_box(90, 900, (1, 1), RATIO) == Box(390, 0, 120, 90)
    assert draw_box(900, 90, (1, 1), RATIO) == Box(0, 390, 90, 120)
    assert draw_box(100, 110, (1, 1), (1.1, 1.1)) == Box(0, 0, 110, 100)


@pytest.mark.parametrize('kind', [*SAMPLINGS, 'grey', 'progressive'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_parts_are_those_of_the_upright_image(orientation, kind, tmp_path):
    image = cv2.GaussianBlur(picture(135, 192), (0, 0), 3)  # cut at other edges, nearly the same
    image = image[..., :1] if kind == 'grey' else image
    data = jpeg(image, kind if kind in SAMPLINGS else '420', progressive=kind == 'progressive')
    path = write(tmp_path / 'a.jpg', with_orientation(data, orientation, '<>'[orientation % 2]))
    for seed in range(4):
        results = []
        for size, reduced in ((48, False), (48, 'auto'), (16, False), (16, 'auto')):
            transform = LoadRandomResizedCrop(
                size, scale=(0.4, 1), reduced=reduced, interpolation='area'
            )
            np.random.seed(seed)
            results.append(transform(dict(img_path=str(path))))
            assert results[-1]['ori_shape'] == ((192, 135) if orientation > 4 else (135, 192))
            assert results[-1]['img_shape'] == (size, size) == results[-1]['img'].shape[:2]
        np.random.seed(seed)
        expected = straightforward(path, 48, cv2.INTER_AREA, (0.4, 1))
        np.testing.assert_array_equal(results[0]['img'], expected)
        pictures = [result['img'].astype(int) for result in results]
        for full, reduced in (pictures[:2], pictures[2:]):
            assert np.abs(full - reduced).mean() < np.abs(full - full[::-1]).mean() / 2


def test_a_size_that_the_header_gets_wrong_costs_no_image(tmp_path, monkeypatch):
    path = write(tmp_path / 'a.jpg', with_orientation(jpeg(picture(135, 192)), 6))
    for wrong in ((135, 192), (1000, 900), None):
        monkeypatch.setattr(random_resized_crop, 'read_jpeg_size', lambda data, w=wrong: w)
        results = LoadRandomResizedCrop(16)(dict(img_path=str(path)))
        assert results['ori_shape'] == (192, 135) and results['img'].shape == (16, 16, 3)


def test_other_formats_are_decoded_whole(tmp_path):
    image = picture(70, 101)
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    cv2.imwrite(str(tmp_path / 'deep.png'), image.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / 'grey.png'), image[..., 0])
    write(tmp_path / 'grey.jpg', jpeg(image[..., :1]))
    Image.fromarray(image).convert('CMYK').save(tmp_path / 'cmyk.jpg')
    transform = LoadRandomResizedCrop(size=32)
    for path in sorted(tmp_path.iterdir()):
        np.random.seed(3)
        expected = straightforward(path, 32)
        np.random.seed(3)
        results = transform(dict(img_path=str(path)))
        np.testing.assert_allclose(results['img'].astype(int), expected, atol=2)
        assert results['ori_shape'] == (70, 101)


def test_unreadable_images_are_counted_as_by_load_image(tmp_path):
    good = write(tmp_path / 'good.jpg', jpeg(picture(70, 101)))
    whole = good.read_bytes()
    transform = LoadRandomResizedCrop(size=32, scale=(0.9, 1), max_unreadable=3)
    for number, content in enumerate((b'', whole[:200], whole[: len(whole) // 3])):
        path = write(tmp_path / f'{number}.jpg', content)
        assert transform(dict(img_path=str(path))) is None
        assert transform(dict(img_path=str(path))) is None
    assert transform(dict(img_path=str(good)))['img'].shape == (32, 32, 3)
    with refused(r'absent\.jpg .* allowed are 3 .*LoadRandomResizedCrop'):
        transform(dict(img_path=str(tmp_path / 'absent.jpg')))


def test_random_numbers_are_numpys_and_can_be_cached(tmp_path):
    path = write(tmp_path / 'a.jpg', jpeg(picture(135, 201)))
    transform = LoadRandomResizedCrop(size=32)

    def load():
        return transform(dict(img_path=str(path)))['img']

    np.random.seed(5)
    first, second = load(), load()
    assert not np.array_equal(first, second)
    np.random.seed(5)
    np.testing.assert_array_equal(load(), first)
    with cache_random_params(transform):
        np.testing.assert_array_equal(load(), load())


WRONG = dict(
    size=(0, 22.5),
    scale=((0, 1), (0.5, 0.1), (0.5, 1.2)),
    ratio=((2, 1), (1,)),
    reduced=(True,),
    interpolation=('cubic',),
)


@pytest.mark.parametrize(
    ('name', 'value'), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_bad_arguments_are_named(name, value):
    with pytest.raises(ValueError, match=f'{name}='):
        LoadRandomResizedCrop(**{name: value})


PLAIN = jpeg(picture(70, 101))


@pytest.mark.parametrize(
    ('old', 'new'), [(b'MM\0*\0\0\0\x08', b'MM\0*\0\0\xff\x08'), (b'Exif', b'http')]
)
def test_damaged_orientations_are_passed_over_as_opencv_does(old, new):
    turned = with_orientation(PLAIN, 6)
    data = turned.replace(old, new)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert data != turned and read_jpeg_size(data) == decoded.shape[:2] == (70, 101)


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
