"""Restart intervals cut out of a JPEG decode to the same pixels."""

import re

import cv2
import numpy as np
import pytest

from mmshuffle.classification import restart
from mmshuffle.classification.decoding import Box, decode_with_cv2, read_header
from mmshuffle.errors import UserError
from tests.conftest import facts
from tests.test_classification.pictures import (
    SAMPLINGS,
    decode,
    jpeg,
    load_tool,
    picture,
    with_orientation,
)

# 12 columns and 9 rows of MCUs at 4:2:0; in the other samplings more.
HEIGHT, WIDTH = 135, 192
BOXES = (Box(17, 9, 64, 41), Box(70, 50, 20, 80), Box(150, 101, 42, 34), Box(48, 48, 16, 16))


@pytest.fixture
def jpegtran():
    try:
        restart.find_jpegtran()
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize('sampling', SAMPLINGS)
@pytest.mark.parametrize('interval', [2, 4, 12, 24])
@pytest.mark.parametrize('reduction', [1, 2, 4])
def test_cut_out_intervals_decode_to_the_same_pixels(sampling, interval, reduction):
    data = jpeg(picture(HEIGHT, WIDTH), sampling, interval)
    header = read_header(data)
    for box in BOXES:
        smaller, small_header, small_box = restart.cut(data, header, box)
        assert len(smaller) < len(data)
        assert read_header(smaller) == small_header
        np.testing.assert_array_equal(
            decode_with_cv2(smaller, small_header, small_box, reduction),
            decode_with_cv2(data, header, box, reduction),
        )


def test_only_what_the_part_touches_is_kept():
    data = jpeg(picture(HEIGHT, WIDTH), '4:4:4', 4)  # tiles of 32x8
    smaller, header, box = restart.cut(data, read_header(data), Box(70, 50, 20, 80))
    assert (header.width, header.height) == (32, 87) and box == Box(6, 2, 20, 80)
    assert len(smaller) - header.scan_at < 0.15 * len(data)
    # Colour at half the resolution is interpolated with that of the next tile.
    data = jpeg(picture(HEIGHT, WIDTH), '4:2:0', 2)
    _, header, box = restart.cut(data, read_header(data), Box(64, 48, 32, 16))
    assert (header.width, header.height) == (96, 48) and box == Box(32, 16, 32, 16)


def test_what_follows_the_image_does_not_disturb():
    data = jpeg(picture(HEIGHT, WIDTH), interval=4)
    header = read_header(data)
    expected = decode_with_cv2(data, header, BOXES[0], 1)
    cut = restart.cut(data + jpeg(picture(40, 40), interval=1), header, BOXES[0])
    assert len(cut[0]) < len(data)
    np.testing.assert_array_equal(decode_with_cv2(*cut, 1), expected)


def test_files_without_usable_markers_stay_as_they_are():
    image, box = picture(HEIGHT, WIDTH), BOXES[0]
    marked = jpeg(image, interval=4)
    scan_at = read_header(marked).scan_at
    second = [m.start() for m in re.finditer(rb'\xff[\xd0-\xd7]', marked[scan_at:])][1] + scan_at
    for data in (
        jpeg(image),
        jpeg(image, interval=4, progressive=True),
        jpeg(image, interval=5),  # no divisor of the row's 12 MCUs
        marked[:second] + marked[second + 2 :],
        marked[: len(marked) // 2],
    ):
        header = read_header(data)
        assert restart.cut(data, header, box) == (data, header, box)
    whole = Box(0, 0, WIDTH, HEIGHT)
    header = read_header(marked)
    assert restart.cut(marked, header, whole) == (marked, header, whole)


def test_markers_make_tiles_where_the_row_can_be_divided():
    def wanted(width, sampling):
        return restart.markers_wanted(read_header(jpeg(picture(32, width), sampling)))

    assert wanted(640, '4:4:4') == '10B'  # of 80 MCUs: 80 pixels
    assert wanted(640, '4:2:0') == '5B'  # of 40
    assert wanted(375, '4:4:4') == '47B'  # a prime number: whole rows
    assert wanted(20, '4:2:0') == '2B'


def test_markers_leave_the_pixels_alone(jpegtran):
    for path in sorted(facts('data/coco_mini/val2017').iterdir())[:6]:
        data = path.read_bytes()
        marked = restart.add_markers(data)
        assert len(marked) < 1.05 * len(data)
        np.testing.assert_array_equal(decode(marked), decode(data))
        header = read_header(marked)
        box = Box(header.width // 3, header.height // 5, header.width // 3, header.height // 3)
        cut = restart.cut(marked, header, box)
        assert len(cut[0]) < 0.5 * len(marked)
        np.testing.assert_array_equal(decode_with_cv2(*cut, 1), box.of(decode(data)))


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / 'images' / 'class'
    folder.mkdir(parents=True)
    (folder / 'plain.jpg').write_bytes(jpeg(picture(HEIGHT, WIDTH)))
    turned = with_orientation(jpeg(picture(HEIGHT, WIDTH), progressive=True), 6)
    (folder / 'turned.JPEG').write_bytes(turned)
    (folder / 'broken.jpg').write_bytes(b'\xff\xd8 cut off')
    cv2.imwrite(str(folder / 'other.png'), picture(40, 40))
    return folder.parent


def test_the_tool_copies_a_folder(jpegtran, images, tmp_path, capsys):
    tool, copies = load_tool('add_restart_markers'), tmp_path / 'copies'
    tool.main([str(images), str(copies), '--workers', '2'])
    assert '4 files copied, 2 of them with restart markers' in capsys.readouterr().out
    for name in ('plain.jpg', 'turned.JPEG'):
        before, after = ((f / 'class' / name).read_bytes() for f in (images, copies))
        assert restart.grid_of(read_header(after)) and not restart.grid_of(read_header(before))
        assert read_header(after).orientation == read_header(before).orientation
        np.testing.assert_array_equal(decode(after), decode(before))
    for name in ('broken.jpg', 'other.png'):
        assert (copies / 'class' / name).read_bytes() == (images / 'class' / name).read_bytes()
    (copies / 'class' / 'plain.jpg').unlink()
    tool.main([str(images), str(copies)])
    assert '1 files copied' in capsys.readouterr().out


def test_the_tool_refuses_in_one_line(images, tmp_path, monkeypatch):
    tool, copies = load_tool('add_restart_markers'), tmp_path / 'copies'
    for source, target, message in (
        (tmp_path / 'none', copies, 'is no folder'),
        (images, images / 'copies', 'give a folder outside of it'),
        (images, images / 'class' / 'plain.jpg', 'is a file'),
    ):
        with pytest.raises(UserError, match=message):
            tool.main([str(source), str(target)])
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(UserError, match='libjpeg-turbo-progs'):
        tool.main([str(images), str(copies)])
    assert not copies.exists()
