_base_ = './light-head-rcnn_shufflenetv2-x1.0_8xb2-20e_coco.py'

model = dict(
    backbone=dict(
        extra_depthwise=True,
        init_cfg=dict(checkpoint=_base_.imagenet_checkpoint.format('shufflenetv2-x1.0-star')),
    ),
)
