_base_ = './faster-rcnn_mobilenetv1-x1.0_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        widen_factor=0.5,
        init_cfg=dict(
            checkpoint='checkpoints/mobilenetv1-x0.5.pth',
        ),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
