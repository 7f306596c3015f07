_base_ = [
    '../_base_/models/light-head-rcnn.py',
    '../_base_/datasets/coco_detection_800x1200.py',
    '../_base_/schedules/light_head_bs16_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='XceptionLike',
        widen_factor=1.0,
        out_indices=(2, 3),
        output_stride=16,
        frozen_stages=0,
        norm_eval=True,
        norm_cfg=dict(type='BN', requires_grad=False),
        init_cfg=dict(
            type='Pretrained', checkpoint=_base_.imagenet_checkpoint.format('xception-145m')
        ),
    ),
    neck=dict(in_channels=[256, 512]),
    rpn_head=dict(in_channels=256),
)
