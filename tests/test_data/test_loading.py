"""Unreadable images are counted, named and limited."""

import copy
import logging

import pytest
from mmengine.logging import MMLogger
from torch.utils.data import DataLoader, Dataset

from mmshuffle.data import LoadImage
from tests.conftest import refused
from tests.tiny import write_coco


@pytest.fixture
def images(tmp_path):
    folder = write_coco(tmp_path / 'data', images=4) / 'images'
    for name in ('1.jpg', '2.jpg'):
        (folder / name).write_bytes(b'\xff\xd8 cut off')
    return folder


def load(transform, folder, index):
    return transform(dict(img_path=str(folder / f'{index}.jpg')))


def test_skips_up_to_the_limit_and_names_each_image_once(images, caplog):
    MMLogger.get_instance('loading', logger_name='loading')
    transform = LoadImage(max_unreadable=2)
    with caplog.at_level(logging.WARNING, logger='loading'):
        assert load(transform, images, 0)['img'].shape == (64, 96, 3)
        for _ in range(3):
            assert load(transform, images, 1) is None
        assert load(transform, images, 2) is None
    assert int(transform._unreadable.sum()) == 2
    (images / '3.jpg').unlink()
    with refused(r'3\.jpg cannot be read .* 3 unreadable, allowed are 2'):
        load(transform, images, 3)


@pytest.mark.parametrize('content', [b'\xff\xd8 cut off', b''])
@pytest.mark.parametrize('ignore_empty', [False, True])  # with it, mmcv passes them as None
def test_stops_at_once_by_default(images, content, ignore_empty):
    (images / '0.jpg').write_bytes(content)
    with refused(r'0\.jpg cannot be read'):
        load(LoadImage(ignore_empty=ignore_empty), images, 0)


class Pictures(Dataset):
    def __init__(self, transform, folder):
        self.transform, self.folder = transform, folder

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return load(self.transform, self.folder, index) is not None


def test_workers_share_the_count(images):
    transform = LoadImage(max_unreadable=2)
    for _ in range(2):  # the workers of each epoch are new processes
        found = [bool(x) for x in DataLoader(Pictures(transform, images), num_workers=2)]
        assert found == [True, False, False]
    assert int(transform._unreadable.sum()) == 2
    # A pipeline is copied when a data set is built from it.
    assert int(copy.deepcopy(transform)._unreadable.sum()) == 2
