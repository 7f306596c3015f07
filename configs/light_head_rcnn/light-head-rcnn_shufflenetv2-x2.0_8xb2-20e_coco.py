_base_ = './light-head-rcnn_shufflenetv2-x1.0_8xb2-20e_coco.py'

model = dict(
    backbone=dict(
        widen_factor=2.0,
        init_cfg=dict(checkpoint=_base_.imagenet_checkpoint.format('shufflenetv2-x2.0')),
    ),
    neck=dict(in_channels=[488, 976]),
    rpn_head=dict(in_channels=488),
)
