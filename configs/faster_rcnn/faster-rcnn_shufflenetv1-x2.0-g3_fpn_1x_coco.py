_base_ = './faster-rcnn_shufflenetv1-x0.5-g3_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        widen_factor=2.0,
        init_cfg=dict(checkpoint=_base_.imagenet_checkpoint.format('shufflenetv1-x2.0-g3')),
    ),
    neck=dict(in_channels=[48, 480, 960, 1920]),
)
