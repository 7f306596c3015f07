_base_ = './faster-rcnn_shufflenetv2-x1.0_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        widen_factor=2.0,
        init_cfg=dict(
            checkpoint='https://download.pytorch.org/models/shufflenetv2_x2_0-8be3c8ee.pth',
        ),
    ),
    neck=dict(in_channels=[24, 244, 488, 976]),
)
