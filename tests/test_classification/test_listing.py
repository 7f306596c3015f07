"""Each layout of images and labels is read, and each mistake in it is told from the others."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from mmdet.registry import DATASETS
from scipy.io import savemat

from mmshuffle.classification import ImageFolder
from mmshuffle.classification.listing import list_annotated, list_class_folders, passed_over
from tests.conftest import refused

# In the devkit classes are numbered in another order than that of their names.
DEVKIT = {1: 'n03', 2: 'n01', 3: 'n02'}


def write(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'')
    return folder


def write_devkit(folder: Path, labels: tuple[int, ...], classes: dict[int, str] = DEVKIT) -> Path:
    """The parts of ILSVRC2012_devkit_t12/data that are read; id 1000 + k is a superclass."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = [('ILSVRC2012_ID', 'O'), ('WNID', 'O'), ('words', 'O'), ('num_children', 'O')]
    rows = [(number, wnid, 'a name', 0) for number, wnid in classes.items()]
    rows.append((1001, 'n00', 'superclass', 3))
    savemat(folder / 'meta.mat', {'synsets': np.array(rows, dtype=fields)[:, None]})
    path = folder / 'ILSVRC2012_validation_ground_truth.txt'
    path.write_text('\n'.join(map(str, labels)) + '\n')
    return path


def val_names(count: int) -> list[str]:
    return [f'ILSVRC2012_val_{i + 1:08d}.JPEG' for i in range(count)]


@pytest.mark.parametrize(
    ('files', 'given', 'expected'),
    [
        # By name, whatever the order on the disk.
        ('n02/b.JPEG n02/a.png n01/c.jpg n01/d.txt', None, 'n01/c.jpg n02/a.png n02/b.JPEG'),
        ('cat/1.jpg dog/2.jpg cow/3.jpg', ('dog', 'cat'), 'dog/2.jpg cat/1.jpg'),
        ('cat/1.jpg cat/._1.jpg .ipynb_checkpoints/1.jpg', None, 'cat/1.jpg'),
        *(
            (f'n01/a{suffix} n01/b.heic n01/c.txt n01/.d.txt', None, f'n01/a{suffix}')
            for suffix in ('.jfif', '.JFIF', '.jpe', '.WebP', '.pgm', '.Tiff', '.jp2')
        ),
    ],
)
def test_class_folders_are_numbered_and_what_is_no_image_is_told(tmp_path, files, given, expected):
    write(tmp_path, *files.split())
    classes, labelled = list_class_folders(tmp_path, given)
    assert classes == tuple(dict.fromkeys(name.split('/')[0] for name in expected.split()))
    paths = [Path(path).relative_to(tmp_path).as_posix() for path, _ in labelled]
    assert paths == expected.split()
    assert [classes[label] for _, label in labelled] == [path.split('/')[0] for path in paths]
    left = [name for name in files.split() if name.endswith(('.txt', '.heic')) and '/.' not in name]
    assert passed_over(tmp_path) == [str(tmp_path / name) for name in left]


@pytest.mark.parametrize(
    ('text', 'classes', 'expected'),
    [
        ('a b.jpg 7\n\nc.jpg 0\n', None, {'a b.jpg': 7, 'c.jpg': 0}),
        ('\ufeffc.jpg dog\na b.jpg cat\n', ('cat', 'dog'), {'c.jpg': 1, 'a b.jpg': 0}),
        ('c.jpg\thot dog\na b.jpg\t0\n', ('cat', 'hot dog'), {'c.jpg': 1, 'a b.jpg': 0}),
    ],
)
def test_lists_take_indices_or_names_of_classes(tmp_path, text, classes, expected):
    folder = write(tmp_path / 'val', 'a b.jpg', 'c.jpg')
    (tmp_path / 'list.txt').write_text(text, encoding='utf-8')
    labelled = [(str(folder / name), label) for name, label in expected.items()]
    assert list_annotated(folder, tmp_path / 'list.txt', classes) == (classes, labelled)


def test_the_devkits_numbers_become_the_usual_indices(tmp_path):
    write(tmp_path / 'val', *reversed(val_names(4)))
    ann_file = write_devkit(tmp_path / 'devkit' / 'data', (1, 3, 2, 1))
    classes, labelled = list_annotated(tmp_path / 'val', ann_file)
    assert classes == ('n01', 'n02', 'n03')
    assert [(Path(p).name, label) for p, label in labelled] == list(
        zip(val_names(4), (2, 1, 0, 2), strict=True)
    )


def dataset(root: Path, **kwargs) -> ImageFolder:
    return DATASETS.build(dict(type='ImageFolder', data_root=str(root), **kwargs))


def test_the_dataset_joins_its_paths(tmp_path):
    write(tmp_path, 'train/n01/a.JPEG', 'train/n02/b.JPEG')
    for root in (tmp_path, f'{tmp_path}/'):
        built = dataset(root, data_prefix='train')
        assert built.metainfo['classes'] == ('n01', 'n02')
        assert built.get_data_info(1)['gt_label'] == 1
        assert Path(built.get_data_info(1)['img_path']) == tmp_path / 'train/n02/b.JPEG'
    (tmp_path / 'list.txt').write_text('train/n02/b.JPEG 5\n')
    built = dataset(tmp_path, ann_file='list.txt')
    assert len(built) == 1 and built.get_data_info(0)['gt_label'] == 5
    (tmp_path / 'names.txt').write_text('n02\nn01\n')
    built = dataset(tmp_path, data_prefix='train', classes=str(tmp_path / 'names.txt'))
    assert built.metainfo['classes'] == ('n02', 'n01')
    write(tmp_path, 'food/hot dog/1.jpg', 'food/pie/2.jpg')
    (tmp_path / 'names.txt').write_text('pie\nhot dog\n')
    built = dataset(tmp_path, data_prefix='food', classes=str(tmp_path / 'names.txt'))
    assert built.metainfo['classes'] == ('pie', 'hot dog')


def devkit(root: Path, labels: tuple[int, ...], images: int = 2) -> dict:
    write(root / 'val', *val_names(images))
    write_devkit(root / 'devkit', labels)
    return dict(ann_file='devkit/ILSVRC2012_validation_ground_truth.txt')


def no_meta(root: Path) -> dict:
    given = devkit(root, (1, 2))
    (root / 'devkit' / 'meta.mat').unlink()
    return given


def other_meta(root: Path) -> dict:
    given = devkit(root, (1, 2))
    savemat(root / 'devkit' / 'meta.mat', {'other': np.zeros(3)})
    return given


# Images, or what makes them, what is said, and other arguments; a list of images is given by lines.
VAL, TRAIN = dict(data_prefix='val'), dict(data_prefix='train')
TWO = 'val/ILSVRC2012_val_00000001.JPEG val/ILSVRC2012_val_00000002.JPEG'
MISTAKES = [
    (TWO, "images of ILSVRC without class folders.*devkit's data/ILSVRC2012_val", VAL),
    ('train/n01.tar train/n02.tar', 'has .tar files; unpack each into a folder of its name', TRAIN),
    ('train/1.jpg train/2.jpg', 'has images and no class folders', TRAIN),
    ('train/notes.txt', 'has no class folders; fix data_root or data_prefix', TRAIN),
    ('train/n01/a.JPEG val/n01/b.JPEG', 'train has no images but folders: .* a level too high', {}),
    ('train/n01/a.JPEG train/n02/notes.txt', 'n02 has no images but notes.txt.*; fix the', TRAIN),
    ('training/n01/a.JPEG validation/n01/b.JPEG', 'exist; .* has training, validation: fix', TRAIN),
    ('ILSVRC/Data/CLS-LOC/train/n01/a.JPEG', 'set data_root to .*ILSVRC/Data/CLS-LOC/', TRAIN),
    ('cat/1.jpg cow/2.jpg', 'no folder horse; it has cat, cow', dict(classes=('cow', 'horse'))),
    ('val/a.jpg', 'ann_file .*val.txt cannot be read', dict(VAL, ann_file='val.txt')),
    ('val/a.jpg', '1 of 2 .*list.txt .*val/val/b', dict(VAL, ann_file='a.jpg 0\nval/b.jpg 1\n')),
    ('val/a.jpg', "line 2: 'b.jpg': give the image", dict(VAL, ann_file='a.jpg 0\nb.jpg\n')),
    ('train/n01/a.JPEG', 'classes names.txt cannot be read', dict(TRAIN, classes='names.txt')),
    (partial(devkit, labels=(1, 2), images=3), '3 images named ILSVRC2012_val_.* 2 labels', VAL),
    (no_meta, 'meta.mat does not exist', VAL),
    (other_meta, 'is not the meta.mat', VAL),
    (partial(devkit, labels=(1, 9)), 'has the label 9, which meta.mat beside it lacks', VAL),
]


@pytest.mark.parametrize(('files', 'message', 'given'), MISTAKES)
def test_each_mistake_has_its_own_message(files, message, given, tmp_path):
    kwargs = dict(given)
    if callable(files):
        kwargs |= files(tmp_path)
    else:
        write(tmp_path, *files.split())
    if '\n' in kwargs.get('ann_file', ''):
        (tmp_path / 'list.txt').write_text(kwargs['ann_file'])
        kwargs['ann_file'] = 'list.txt'
    with refused(message):
        dataset(tmp_path, **kwargs)
