_base_ = [
    '../_base_/models/light-head-rcnn.py',
    '../_base_/datasets/coco_detection_800x1200.py',
    '../_base_/schedules/light_head_bs16_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='DilatedMobileNetV2',
        widen_factor=1.0,
        out_indices=(4, 6),
        frozen_stages=0,
        norm_eval=True,
        norm_cfg=dict(type='BN', requires_grad=False),
        init_cfg=dict(
            type='PretrainedStrict',
            checkpoint=_base_.imagenet_checkpoint.format('mobilenetv2-x1.0'),
        ),
    ),
    neck=dict(in_channels=[96, 320]),
    rpn_head=dict(in_channels=96),
)
