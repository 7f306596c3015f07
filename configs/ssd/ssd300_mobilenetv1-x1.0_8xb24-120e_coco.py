# SSD 300 of the MobileNet paper (section 4.7, Table 13): extra layers of full convolutions, as in
# TensorFlow's object detection API, and predictions by separable ones.
_base_ = [
    '../_base_/models/ssdlite.py',
    '../_base_/datasets/coco_detection_300x300.py',
    '../_base_/schedules/detection_bs192_120e_sgd.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        type='MobileNetV1',
        widen_factor=1.0,
        out_indices=(2, 3),
        init_cfg=dict(
            type='Pretrained', checkpoint=_base_.imagenet_checkpoint.format('mobilenetv1-x1.0')
        ),
    ),
    neck=dict(
        in_channels=(512, 1024), out_channels=(512, 1024, 512, 256, 256, 128), use_depthwise=False
    ),
    bbox_head=dict(
        in_channels=(512, 1024, 512, 256, 256, 128),
        anchor_generator=dict(
            strides=[16, 32, 60, 100, 150, 300],
            min_sizes=[60, 105, 150, 195, 240, 285],
            max_sizes=[105, 150, 195, 240, 285, 300],
            ratios=[[2], [2, 3], [2, 3], [2, 3], [2, 3], [2, 3]],
        ),
    ),
)
