_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
    '../_base_/pretrained.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='ShuffleNetV2',
        widen_factor=1.0,
        layout='torchvision',
        out_indices=(1, 2, 3),
        frozen_stages=0,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='mmshuffle://torchvision/shufflenetv2-x1.0'),
    ),
    neck=dict(in_channels=[116, 232, 464], start_level=0),
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
