# timm's weights, with the input and the activation that they were trained with.
_base_ = './faster-rcnn_mobilenetv1-x0.5_fpn_1x_coco.py'

model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(
        widen_factor=1.0,
        act_cfg=dict(type='ReLU6'),
        init_cfg=dict(checkpoint='mmshuffle://timm/mobilenetv1-x1.0'),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
