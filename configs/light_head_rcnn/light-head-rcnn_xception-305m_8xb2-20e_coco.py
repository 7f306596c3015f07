_base_ = './light-head-rcnn_xception-145m_8xb2-20e_coco.py'

model = dict(
    backbone=dict(
        widen_factor=1.5,
        init_cfg=dict(checkpoint=_base_.imagenet_checkpoint.format('xception-305m')),
    ),
    neck=dict(in_channels=[384, 768]),
    rpn_head=dict(in_channels=384),
)
