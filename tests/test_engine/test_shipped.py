"""A shipped config is found by its path, by its name, and by the short forms of it."""

import re

import pytest

from mmshuffle.engine import shipped
from mmshuffle.engine.config import read_config
from tests.conftest import REPO, refused

FINETUNE = 'faster-rcnn_shufflenetv2-x0.5_fpn_1xb4-12e'


@pytest.mark.parametrize(
    ('name', 'stem'),
    [
        ('shufflenetv2-x1.0', 'shufflenetv2-x1.0_8xb128-300k_imagenet'),  # not the 75k
        ('shufflenetv1-x0.5-g3', 'shufflenetv1-x0.5-g3_8xb128-300k_imagenet'),
        ('shufflenetv2-x1.0_8xb128-75k_imagenet', 'shufflenetv2-x1.0_8xb128-75k_imagenet'),
        ('mobilenetv1-x0.5-160px', 'mobilenetv1-x0.5-160px_8xb128-300k_imagenet'),
        ('squeezenet1.0', 'squeezenet1.0_8xb64-170k_imagenet'),
        ('alexnet', 'alexnet_8xb32-450k_imagenet'),
        ('bccd', f'{FINETUNE}_bccd'),
        ('coco_320', f'{FINETUNE}_coco_320'),
    ],
)
def test_a_name_means_one_config(name, stem):
    assert shipped.find(name).stem == stem
    cfg = read_config(name)
    assert cfg.filename.endswith(f'/{stem}.py') and 'model' in cfg


def test_every_config_has_a_name_of_its_own():
    paths = list((REPO / 'configs').glob('[!_]*/**/*.py'))
    assert {shipped.find(path.stem) for path in paths} == set(paths)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('shufflenetv2-x1.1', 'does not exist: .* near: .*shufflenetv2-x1.0'),
        ('shufflenetv2-x1.0_300k_imagenet', 'near: shufflenetv2-x1.0_8xb128-300k_imagenet'),
        ('configs/imagenet/rivals/xception-40m_300k_imagenet.py', 'near: xception-40m_8xb128'),
        ('1x_coco', r'the end of \d+ names: faster-rcnn_'),
        ('configs', 'is a folder'),
        ('zzz', 'does not exist: give the path of a file or the name of a shipped config$'),
    ],
)
def test_an_unknown_or_ambiguous_name_is_one_line_with_names_that_are_near(name, message):
    with refused(message):
        read_config(name)


def test_a_file_of_the_user_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'bccd').write_text('')
    assert shipped.resolve('bccd') == 'bccd'
    assert re.search(r'fpn_1xb2-12e_quickstart\.py$', shipped.resolve('quickstart'))
