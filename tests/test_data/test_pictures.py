"""What is wrong with an image file is told as a pipeline would meet it."""

import io
import os

import cv2
import mmcv
import numpy as np
import pytest
from PIL import Image

from mmshuffle.data.pictures import Loading, find_missing, inspect_image, sample, summarise

WIDE = (48, 32)


def noise(shape=(32, 48, 3), top: int = 256, dtype=np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, shape).astype(dtype)


def encode(suffix: str, pixels: np.ndarray, orientation: int | None = None) -> bytes:
    if orientation is None:
        return cv2.imencode(suffix, pixels)[1].tobytes()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, {'.jpg': 'JPEG', '.png': 'PNG'}[suffix], exif=exif)
    return stream.getvalue()


def kinds(tmp_path, content: bytes, size=WIDE, **loading) -> list[str]:
    path = tmp_path / 'image'
    path.write_bytes(content)
    return [fault.kind for fault in inspect_image(path, size, Loading(**loading))[1]]


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize(
    'loading',
    [dict(), dict(color_type='unchanged'), dict(backend='pillow'), dict(color_type='grayscale')],
    ids=str,
)
def test_boxes_of_unturned_pixels_are_found_where_mmcv_turns_the_image(
    tmp_path, orientation, loading
):
    content = encode('.jpg', noise(), orientation)
    height, width = mmcv.imfrombytes(
        content, flag=loading.get('color_type', 'color'), backend=loading.get('backend', 'cv2')
    ).shape[:2]
    turned = (width, height) != WIDE
    found = kinds(tmp_path, content, WIDE, **loading)
    if turned:
        assert orientation in (5, 6, 7, 8) and found == ['exif']
        assert kinds(tmp_path, content, (width, height), **loading) == []
    elif orientation in (2, 3, 4) and loading.get('color_type') != 'unchanged':
        assert found == ['exif unknown']
    else:
        assert found == []


@pytest.mark.parametrize(
    ('size', 'expected'),
    [
        *((size, []) for size in (WIDE, (48.0, 32.0), (49, 32), None)),
        ((32, 48), ['swapped']),
        *((size, ['size']) for size in ((480, 320), (48, 36))),
    ],
)
@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.bmp', '.webp', '.tif', '.ppm'])
def test_sizes_are_those_of_the_annotations(tmp_path, suffix, size, expected):
    assert kinds(tmp_path, encode(suffix, noise()), size) == expected


@pytest.mark.parametrize(
    'content', [b'', b'no image', b'<html></html>', encode('.jpg', noise())[:40]]
)
def test_damaged_images_are_told_and_those_that_are_not_there(tmp_path, content):
    assert kinds(tmp_path, content) == ['unreadable']
    (fault,) = inspect_image(tmp_path / 'none.jpg', WIDE)[1]
    assert fault.kind == 'unreadable' and 'No such file' in fault.detail


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_images_that_are_cut_off_are_told_whether_opencv_decodes_them_or_not(tmp_path, suffix):
    (tmp_path / 'image').write_bytes(encode(suffix, noise())[:-300])
    (fault,) = inspect_image(tmp_path / 'image', WIDE)[1]
    assert fault.kind in ('cut off', 'unreadable') and 'truncated' in fault.detail


@pytest.mark.parametrize(
    ('pixels', 'suffix', 'few'),
    [
        (noise((32, 48), 4096, np.uint16), '.png', True),
        (noise((32, 48), 4096, np.uint16), '.tif', True),
        (noise((32, 48), 1024, np.uint16), '.png', True),
        (noise((32, 48, 3), 4096, np.uint16), '.png', True),
        (noise((32, 48), 65536, np.uint16), '.png', False),
        (noise((32, 48, 3), 65536, np.uint16), '.png', False),
        (noise((32, 48), 256, np.uint8), '.png', False),
        (noise((32, 48), 2, np.uint8) * 255, '.png', False),  # a scanned text
        (np.zeros((32, 48), np.uint16), '.png', False),
    ],
)
def test_deep_images_that_lose_their_levels_are_told(tmp_path, pixels, suffix, few):
    assert kinds(tmp_path, encode(suffix, pixels)) == (['few levels'] if few else [])
    assert kinds(tmp_path, encode(suffix, pixels), color_type='unchanged') == []


def test_palettes_alpha_and_grey_load_as_they_are(tmp_path):
    for mode in ('P', 'LA', 'RGBA', 'L', '1'):
        stream = io.BytesIO()
        Image.fromarray(noise()).convert(mode).save(stream, 'PNG')
        assert kinds(tmp_path, stream.getvalue()) == []


def test_faults_of_a_kind_are_one_line_and_some_are_tolerated(tmp_path):
    faults = []
    for index in range(5):
        (tmp_path / f'{index}.jpg').write_bytes(b'no image')
        faults += inspect_image(tmp_path / f'{index}.jpg', WIDE)[1]
    (found,) = summarise(faults, 20, Loading(tolerated=4))
    assert found.fatal and found.message.startswith('5 of 20 images that were opened cannot be')
    assert '2.jpg' in found.message and '3.jpg' not in found.message
    assert not summarise(faults, 20, Loading(tolerated=5))[0].fatal
    assert summarise(faults, 5, Loading(tolerated=5))[0].fatal  # all of them


def test_the_sample_is_fixed_and_has_both_ends():
    assert sample(1) == [0] and sample(3) == [0, 1, 2]
    picked = sample(100000)
    assert len(picked) == 32 and picked[0] == 0 and picked[-1] == 99999


def test_each_folder_is_listed_once(tmp_path, monkeypatch):
    names = [f'{folder}/{i}.jpg' for folder in ('a', 'b c/ö') for i in range(50)]
    for name in names[:-1]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / 'a/dead.jpg').symlink_to(tmp_path / 'none')
    (tmp_path / 'a/folder.jpg').mkdir()
    (tmp_path / 'a/link.jpg').symlink_to(tmp_path / 'a/0.jpg')
    absent = ['none/x.jpg', 'a/dead.jpg', 'a/folder.jpg', '/0.jpg', 'a\0/0.jpg']
    calls, scandir = [], os.scandir
    monkeypatch.setattr('os.scandir', lambda path: calls.append(path) or scandir(path))
    assert find_missing(tmp_path, [*names, 'a/link.jpg', *absent]) == [names[-1], *absent]
    assert len(calls) == 5
