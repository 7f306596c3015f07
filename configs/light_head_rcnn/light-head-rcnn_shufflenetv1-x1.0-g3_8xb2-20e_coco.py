_base_ = [
    '../_base_/models/light-head-rcnn.py',
    '../_base_/datasets/coco_detection_800x1200.py',
    '../_base_/schedules/light_head_bs16_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='ShuffleNetV1',
        groups=3,
        widen_factor=1.0,
        out_indices=(2, 3),
        output_stride=16,
        frozen_stages=0,
        norm_eval=True,
        norm_cfg=dict(type='BN', requires_grad=False),
        init_cfg=dict(
            type='Pretrained', checkpoint=_base_.imagenet_checkpoint.format('shufflenetv1-x1.0-g3')
        ),
    ),
    neck=dict(in_channels=[480, 960]),
    rpn_head=dict(in_channels=480),
)
