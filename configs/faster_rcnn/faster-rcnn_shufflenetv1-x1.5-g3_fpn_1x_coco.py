_base_ = './faster-rcnn_shufflenetv1-x0.5-g3_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        widen_factor=1.5,
        init_cfg=dict(checkpoint=_base_.imagenet_checkpoint.format('shufflenetv1-x1.5-g3')),
    ),
    neck=dict(in_channels=[24, 360, 720, 1440]),
)
