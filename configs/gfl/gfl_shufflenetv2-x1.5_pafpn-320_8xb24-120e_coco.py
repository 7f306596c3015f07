_base_ = './gfl_shufflenetv2-x1.0_pafpn-320_8xb24-120e_coco.py'

model = dict(
    backbone=dict(
        widen_factor=1.5,
        init_cfg=dict(checkpoint='mmshuffle://torchvision/shufflenetv2-x1.5'),
    ),
    neck=dict(in_channels=[176, 352, 704]),
)
