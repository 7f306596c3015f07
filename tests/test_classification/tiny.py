"""A classifier and a data set small enough to train in seconds."""

from pathlib import Path

import cv2
import numpy as np

from tests.conftest import REPO
from tests.tiny import write_over

COLOURS = {'blue': (200, 60, 40), 'green': (40, 190, 60), 'red': (50, 50, 210)}


def write_folders(root: Path, images: int = 4, size: int = 48) -> Path:
    """Write ``train`` and ``val`` of three classes, told apart by their colour."""
    rng = np.random.default_rng(0)
    for part in ('train', 'val'):
        for name, colour in COLOURS.items():
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(images):
                noise = rng.integers(-40, 40, (size, size, 3))
                picture = np.clip(noise + colour, 0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / f'{index}.jpg'), picture)
    return root


def write_config(folder: Path, data: Path, text: str = '', epochs: int = 2) -> Path:
    """Write a config of a small ShuffleNet V2 on ``data``, and one over it with ``text``."""
    path = folder / 'tiny.py'
    path.write_text(
        f"""
_base_ = [
    '{REPO}/configs/_base_/models/image_classifier.py',
    '{REPO}/configs/_base_/datasets/imagenet.py',
    '{REPO}/configs/_base_/schedules/imagenet_bs1024_75k.py',
    '{REPO}/configs/_base_/imagenet_runtime.py',
]
data_root = '{data}/'
pipeline = [dict(type='LoadImage'), dict(type='PackClassInputs')]
loader = dict(batch_size=4, num_workers=0, persistent_workers=False, pin_memory=False)
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=pipeline), **loader)
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=pipeline), **loader)
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1, 2))
test_evaluator = val_evaluator
model = dict(
    backbone=dict(type='ShuffleNetV2', widen_factor=0.5, out_indices=(2,)),
    head=dict(in_channels=96, num_classes=3),
)
train_cfg = dict(max_epochs={epochs}, val_interval=1)
optim_wrapper = dict(optimizer=dict(lr=0.05))
param_scheduler = [dict(type='PolyLR', end={epochs}, convert_to_iter_based=True)]
randomness = dict(seed=1)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
custom_hooks = [*_base_.custom_hooks, dict(type='HistoryHook')]
visualizer = dict(vis_backends=[])
"""
    )
    return write_over(path, text)
