"""Every image of a set is opened, and every fault of it ends in one line and in the report."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from tests.conftest import REPO
from tests.test_checks.test_dataset import edit
from tests.test_tools.conftest import assert_refused
from tests.tiny import write_coco, write_config


@pytest.fixture
def coco(tmp_path):
    root = tmp_path / 'a set'
    for seed, (part, number) in enumerate((('train', 40), ('val', 4))):
        write_coco(root, number, part, f'annotations/{part}.json', seed=seed)
    return root


def noise(path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    path.write_bytes(cv2.imencode('.png', pixels)[1].tobytes())


@pytest.fixture
def folders(tmp_path):
    root = tmp_path / 'classes'
    for index in range(20):
        part = 'val' if index % 5 == 4 else 'train'
        noise(root / part / ('cat', 'dog')[index % 2] / f'{index}.png', index)
    return root


def test_sound_sets(call, coco, folders, tmp_path):
    report = tmp_path / 'report.json'
    pair = (coco / 'annotations/train.json', coco / 'train')
    val = ('--val', coco / 'annotations/val.json', coco / 'val')
    for data, images in (
        ((coco,), 44),
        ((*pair, *val), 44),
        (pair, 40),
        ((folders,), 20),
        ((folders / 'train', '--val', folders / 'val'), 20),
        ((folders / 'val',), 4),
    ):
        code, out, err = call('verify_dataset', *data, '--json', report, '--workers', 2)
        assert code == 0 and out.endswith('sound\n'), err
        assert 'images/s' in out and f'{images}/{images}' in err
        written = json.loads(report.read_text())
        assert (written['sound'], written['images'], written['problems']) == (True, images, [])


OPENCV_HAS_THREADS = """
import cv2, numpy, sys
from mmshuffle.checks.verify import Part, Picture, verify
cv2.setNumThreads(4)
cv2.GaussianBlur(numpy.zeros((4000, 4000, 3), numpy.uint8), (31, 31), 5)
print(verify([Part('train', '', [Picture(path) for path in sys.argv[1:]])], 2), cv2.getNumThreads())
"""


def test_workers_do_not_wait_for_threads_that_opencv_had_before_the_fork(coco):
    paths = sorted(map(str, (coco / 'train').iterdir()))
    command = [sys.executable, '-W', 'ignore', '-c', OPENCV_HAS_THREADS, *paths]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO, timeout=300)
    assert done.stdout == '([], []) 4\n', done.stderr


def test_every_image_is_looked_at(call, coco, tmp_path):
    (coco / 'train/7.jpg').write_bytes(b'no image')
    noise(coco / 'train/9.jpg', 1)
    (coco / 'train/10.jpg').unlink()
    shutil.copy(coco / 'train/11.jpg', coco / 'train/12.jpg')
    shutil.copy(coco / 'train/13.jpg', coco / 'val/2.jpg')
    code, out, err = call('verify_dataset', coco, '--json', tmp_path / 'r.json', '--workers', 2)
    assert code == 2 and 'train/10.jpg' not in out
    lines = [line for line in err.splitlines() if line.startswith(('error: ', 'warning: '))]
    for parts in (
        ('error: train', '1 of 40 images are missing', "'10.jpg'"),
        ('error: train', '1 of 39 images cannot be read', 'train/7.jpg: it does not decode'),
        ('error: train', 'another size', 'train/9.jpg: 16x16 loaded, 96x64'),
        ('warning: train', '1 images are copies of another one', 'train/11.jpg = '),
        ('error: val', '1 of 4 images are also in train', 'train/13.jpg = ', 'val/2.jpg', 'leak'),
    ):
        assert sum(all(part in line for part in parts) for line in lines) == 1, (parts, lines)
    assert len(lines) == 5
    written = json.loads((tmp_path / 'r.json').read_text())
    assert len(written['problems']) == 5 and not written['sound']
    assert sorted(fault['kind'] for fault in written['faults']) == ['size', 'unreadable']
    assert written['parts'][0]['missing'] == 1 and written['parts'][0]['boxes'] == 80


def test_faults_of_annotations_and_of_a_config(call, coco, tmp_path):
    path = coco / 'annotations/val.json'
    edit(path, lambda content: content['categories'].reverse())
    code, _, err = call('verify_dataset', coco, '--workers', 0)
    assert code == 2 and 'have another order than those of' in err
    edit(path, lambda content: content['annotations'][0].update(area=None))
    config = ('--config', write_config(tmp_path, coco), '--cfg-options')
    options = [f'{p}_dataloader.dataset.ann_file=annotations/val.json' for p in ('train', 'val')]
    code, _, err = call('verify_dataset', '--workers', 0, *config, *options)
    assert code == 2 and 'null for area (annotations[0], id 1: None)' in err
    assert 'Traceback' not in err


def test_class_folders_differ_share_images_and_have_other_files(call, folders):
    noise(folders / 'train/cat/99.png', 1)  # as dog/1.png
    (folders / 'train/dog/notes.txt').touch()
    code, _, err = call('verify_dataset', folders, '--workers', 0)
    told = ('1 images are in two classes', '1 files have no suffix of an image')
    assert code == 2 and all(part in err for part in told)
    noise(folders / 'train/cow/1.jfif', 50)
    code, _, err = call('verify_dataset', folders, '--workers', 0)
    assert code == 2 and 'its classes are not those of' in err and 'cow' in err


@pytest.mark.parametrize(
    ('args', 'part'),
    [
        ((), 'give the data, or a config'),
        (('nowhere',), 'nowhere does not exist'),
        (('a', 'b', 'c'), 'give an annotation file and its image folder'),
        (('{coco}', '--json', 'no/such/r.json'), 'the folder does not exist'),
        (('{coco}', '--workers', '-1'), 'give a number of at least 0'),
        (('{coco}/annotations/train.json', 'nowhere'), 'image folder nowhere does not exist'),
        (('{coco}/train/1.jpg',), 'no valid JSON'),
        (('--config', 'no.py'), 'config no.py does not exist'),
        (('{coco}/train',), 'has images and no class folders'),
    ],
)
def test_bad_input_is_one_line(call, coco, args, part):
    assert_refused(call('verify_dataset', *(a.format(coco=coco) for a in args)), part)


@pytest.mark.skipif(sys.platform == 'win32', reason='signals')
def test_ctrl_c_ends_all_processes_and_writes_nothing(coco, tmp_path):
    os.mkfifo(coco / 'train/a.jpg')  # reading it waits
    path = coco / 'annotations/train.json'
    edit(path, lambda content: content['images'][0].update(file_name='a.jpg'))
    command = ('tools/verify_dataset.py', path, coco / 'train', '--json', tmp_path / 'r.json')
    running = subprocess.Popen(
        [sys.executable, *command, '--workers', '2'],
        cwd=REPO,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    held = None
    while held is None and running.poll() is None:
        with contextlib.suppress(OSError):  # until a worker reads it
            held = os.open(coco / 'train/a.jpg', os.O_WRONLY | os.O_NONBLOCK)
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGINT)
    _, err = running.communicate()
    os.close(held)
    assert running.returncode == 130 and 'Traceback' not in err and 'interrupted' in err
    assert not (tmp_path / 'r.json').exists()
    with pytest.raises(ProcessLookupError):
        os.killpg(running.pid, 0)
