_base_ = './light-head-rcnn_shufflenetv2-x1.0_8xb2-20e_coco.py'

model = dict(
    backbone=dict(
        type='XceptionLike',
        init_cfg=dict(checkpoint=_base_.imagenet_checkpoint.format('xception-145m')),
    ),
    neck=dict(in_channels=[256, 512]),
    rpn_head=dict(in_channels=256),
)
