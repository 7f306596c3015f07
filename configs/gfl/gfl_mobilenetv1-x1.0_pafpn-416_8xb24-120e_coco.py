_base_ = [
    '../_base_/models/gfl_pafpn.py',
    '../_base_/datasets/coco_detection_416x416.py',
    '../_base_/schedules/detection_bs192_120e_adamw.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        type='MobileNetV1',
        widen_factor=1.0,
        out_indices=(1, 2, 3),
        init_cfg=dict(
            type='Pretrained', checkpoint=_base_.imagenet_checkpoint.format('mobilenetv1-x1.0')
        ),
    ),
    neck=dict(in_channels=[256, 512, 1024]),
)
