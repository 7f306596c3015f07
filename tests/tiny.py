"""Detectors and classifiers with data sets, small enough to train in seconds."""

import json
from pathlib import Path

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmshuffle.engine.network import build_model
from tests.conftest import REPO

CLASSES = ('box', 'disc')
COLOURS = {'blue': (200, 60, 40), 'green': (40, 190, 60), 'red': (50, 50, 210)}


def write_coco(
    root: Path,
    images: int = 4,
    folder: str = 'images',
    ann_file: str = 'annotations.json',
    size: tuple[int, int] = (96, 64),
    seed: int = 0,
) -> Path:
    """Write a COCO-format folder with two bright objects an image."""
    rng = np.random.default_rng(seed)
    (root / folder).mkdir(parents=True)
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)]
    content = dict(images=[], annotations=[], categories=categories)
    width, height = size
    for index in range(images):
        picture = rng.integers(0, 80, (height, width, 3), dtype=np.uint8)
        name = f'{index}.jpg'
        for k in range(2):
            x, y = int(rng.integers(2, width // 2)), int(rng.integers(2, height // 2))
            w, h = int(rng.integers(12, 40)), int(rng.integers(12, 28))
            picture[y : y + h, x : x + w] = (200, 60 + 150 * k, 30)
            ids = dict(id=2 * index + k + 1, image_id=index + 1, category_id=k + 1)
            content['annotations'].append(dict(ids, bbox=[x, y, w, h], area=w * h, iscrowd=0))
        cv2.imwrite(str(root / folder / name), picture)
        content['images'].append(dict(id=index + 1, file_name=name, width=width, height=height))
    (root / ann_file).parent.mkdir(exist_ok=True)
    (root / ann_file).write_text(json.dumps(content))
    return root


def write_config(folder: Path, data: Path, text: str = '', epochs: int = 2) -> Path:
    """Write a config of a very small Faster R-CNN on ``data``, and one over it with ``text``."""
    path = folder / 'tiny.py'
    path.write_text(
        f"""
_base_ = [
    '{REPO}/configs/faster_rcnn/faster-rcnn_shufflenetv2-x0.5_fpn_1x_coco.py',
]
data_root = '{data}/'
dataset = dict(
    data_root=data_root,
    ann_file='annotations.json',
    data_prefix=dict(img='images/'),
    metainfo=dict(classes={CLASSES!r}),
)
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[0].max_unreadable = 1
train_pipeline[2].scale = test_pipeline[1].scale = (96, 64)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(filter_cfg=None, pipeline=train_pipeline, **dataset),
)
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline, **dataset)
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations.json')
test_evaluator = val_evaluator
model = dict(
    backbone=dict(init_cfg=None, norm_eval=False, frozen_stages=-1),
    neck=dict(out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16, roi_layer=dict(sampling_ratio=1)),
        bbox_head=dict(in_channels=16, fc_out_channels=32, num_classes=2),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=32)),
        rpn_proposal=dict(nms_pre=100, max_per_img=50),
        rcnn=dict(sampler=dict(num=16)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=100, max_per_img=50)),
)
train_cfg = dict(max_epochs={epochs})
optim_wrapper = dict(optimizer=dict(lr=0.005))
randomness = dict(seed=1)
default_hooks = dict(logger=dict(interval=1))
visualizer = dict(vis_backends=[])
"""
    )
    return write_over(path, text)


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


def write_classifier(folder: Path, data: Path, text: str = '', epochs: int = 2) -> Path:
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


class OneLayer(BaseModel):
    """Gives the mean square of what a layer makes of each input."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: list, mode: str) -> dict | torch.Tensor:
        outputs = self.layer(torch.stack(inputs)).square().mean(1)
        return dict(loss=outputs.mean()) if mode == 'loss' else outputs


def make_runner(work, layer, dataset, loop, hooks, loader=(), interval=1, resumed=None, **settings):
    """A training of one layer, with batches of two and a checkpoint every ``interval``."""
    by_epoch = loop['by_epoch']
    sampler = dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=True)
    checkpoint = dict(type='CheckpointHook', by_epoch=by_epoch, interval=interval)
    given = dict(
        train_dataloader=dict(dict(dataset=dataset, sampler=sampler, batch_size=2), **dict(loader)),
        train_cfg=dict(loop),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.001, momentum=0.9)),
        default_hooks=dict(checkpoint=checkpoint),
        load_from=resumed and str(resumed),
        resume=resumed is not None,
        experiment_name=f'{work.parent.name}_{work.name}',
        custom_hooks=list(hooks),
        cfg=Config(),
    )
    return Runner(OneLayer(layer), str(work), **{**given, **settings})


def write_over(path: Path, text: str) -> Path:
    """Write a config over another one; without a text it is the other one."""
    if not text:
        return path
    variant = path.with_name('variant.py')
    variant.write_text(f"_base_ = './{path.name}'\n{text}")
    return variant


def draw_samples(
    shape: tuple[int, int], last_label: int, masks: bool = False
) -> list[DetDataSample]:
    """Two images' boxes of the first class and the last, where asked for with masks."""
    truth = InstanceData(
        bboxes=torch.tensor([[8.0, 8.0, 60.0, 50.0], [30.0, 20.0, 60.0, 62.0]]),
        labels=torch.tensor([0, last_label]),
    )
    if masks:
        truth.masks = BitmapMasks(np.ones((2, *shape), np.uint8), *shape)
    empty = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    sizes = dict.fromkeys(('img_shape', 'ori_shape', 'batch_input_shape', 'pad_shape'), shape)
    return [
        DetDataSample(
            metainfo=dict(sizes, img_id=number, scale_factor=(1.0, 1.0)),
            gt_instances=truth,
            ignored_instances=empty,
        )
        for number in range(2)
    ]


def count_multiply_adds(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Count them with PyTorch's counter alone; the module is left on the meta device."""
    module.to('meta').eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.empty(*shape, device='meta'))
    return counter.get_total_flops() // 2


def on_meta(model: dict) -> nn.Module:
    """Build a model of a registry without memory for its parameters."""
    return build_model(Config(dict(model=model)), 'meta')
