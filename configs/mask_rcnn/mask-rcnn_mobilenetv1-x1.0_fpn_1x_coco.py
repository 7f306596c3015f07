_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_instance.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
    '../_base_/pretrained.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNetV1',
        widen_factor=1.0,
        out_indices=(0, 1, 2, 3),
        frozen_stages=0,
        norm_eval=True,
        init_cfg=dict(
            type='Pretrained', checkpoint=_base_.imagenet_checkpoint.format('mobilenetv1-x1.0')
        ),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
