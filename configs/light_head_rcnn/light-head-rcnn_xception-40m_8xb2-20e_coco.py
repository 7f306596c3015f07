_base_ = './light-head-rcnn_xception-145m_8xb2-20e_coco.py'

model = dict(
    backbone=dict(
        widen_factor=0.5,
        init_cfg=dict(checkpoint=_base_.imagenet_checkpoint.format('xception-40m')),
    ),
    neck=dict(in_channels=[128, 256]),
    rpn_head=dict(in_channels=128),
)
