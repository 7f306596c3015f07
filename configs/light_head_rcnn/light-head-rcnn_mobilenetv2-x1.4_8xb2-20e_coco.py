_base_ = './light-head-rcnn_mobilenetv2-x1.0_8xb2-20e_coco.py'

model = dict(
    backbone=dict(
        widen_factor=1.4,
        init_cfg=dict(checkpoint=_base_.imagenet_checkpoint.format('mobilenetv2-x1.4')),
    ),
    neck=dict(in_channels=[136, 448]),
    rpn_head=dict(in_channels=136),
)
