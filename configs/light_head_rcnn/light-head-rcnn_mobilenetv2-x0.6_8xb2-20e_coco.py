_base_ = './light-head-rcnn_mobilenetv2-x1.0_8xb2-20e_coco.py'

model = dict(
    backbone=dict(
        widen_factor=0.6,
        init_cfg=dict(checkpoint=_base_.imagenet_checkpoint.format('mobilenetv2-x0.6')),
    ),
    neck=dict(in_channels=[56, 192]),
    rpn_head=dict(in_channels=56),
)
