_base_ = './faster-rcnn_mobilenetv1-x1.0_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        widen_factor=0.25,
        init_cfg=dict(
            checkpoint='checkpoints/mobilenetv1-x0.25.pth',
        ),
    ),
    neck=dict(in_channels=[32, 64, 128, 256]),
)
