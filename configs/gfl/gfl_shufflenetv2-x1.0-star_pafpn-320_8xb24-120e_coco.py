_base_ = './gfl_shufflenetv2-x1.0_pafpn-320_8xb24-120e_coco.py'

model = dict(
    backbone=dict(
        layout='megvii',
        extra_depthwise=True,
        init_cfg=dict(checkpoint=_base_.imagenet_checkpoint.format('shufflenetv2-x1.0-star')),
    ),
)
