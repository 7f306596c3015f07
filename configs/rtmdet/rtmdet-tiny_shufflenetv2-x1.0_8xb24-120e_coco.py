_base_ = [
    '../_base_/models/rtmdet-tiny.py',
    '../_base_/datasets/coco_detection_416x416.py',
    '../_base_/schedules/detection_bs192_120e_adamw.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        type='ShuffleNetV2',
        widen_factor=1.0,
        layout='torchvision',
        out_indices=(1, 2, 3),
        init_cfg=dict(type='Pretrained', checkpoint='mmshuffle://torchvision/shufflenetv2-x1.0'),
    ),
    neck=dict(in_channels=[116, 232, 464]),
)
