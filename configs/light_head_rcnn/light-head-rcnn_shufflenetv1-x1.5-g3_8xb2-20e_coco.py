_base_ = './light-head-rcnn_shufflenetv1-x1.0-g3_8xb2-20e_coco.py'

model = dict(
    backbone=dict(
        widen_factor=1.5,
        init_cfg=dict(checkpoint=_base_.imagenet_checkpoint.format('shufflenetv1-x1.5-g3')),
    ),
    neck=dict(in_channels=[720, 1440]),
    rpn_head=dict(in_channels=720),
)
