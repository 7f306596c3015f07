_base_ = './gfl_shufflenetv2-x1.0_pafpn-416_8xb24-120e_coco.py'

model = dict(
    backbone=dict(
        widen_factor=0.5,
        init_cfg=dict(checkpoint='mmshuffle://torchvision/shufflenetv2-x0.5'),
    ),
    neck=dict(in_channels=[48, 96, 192]),
)
