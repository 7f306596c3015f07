_base_ = './light-head-rcnn_mobilenetv2-x1.0_8xb2-20e_coco.py'

model = dict(
    backbone=dict(
        widen_factor=0.15,
        init_cfg=dict(checkpoint=_base_.imagenet_checkpoint.format('mobilenetv2-x0.15')),
    ),
    neck=dict(in_channels=[16, 48]),
    rpn_head=dict(in_channels=16),
)
