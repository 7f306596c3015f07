_base_ = './faster-rcnn_mobilenetv1-x0.5_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        widen_factor=0.75,
        init_cfg=dict(checkpoint=_base_.imagenet_checkpoint.format('mobilenetv1-x0.75')),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
