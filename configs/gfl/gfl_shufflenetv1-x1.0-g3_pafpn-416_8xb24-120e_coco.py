_base_ = [
    '../_base_/models/gfl_pafpn.py',
    '../_base_/datasets/coco_detection_416x416.py',
    '../_base_/schedules/detection_bs192_120e_adamw.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        type='ShuffleNetV1',
        groups=3,
        widen_factor=1.0,
        out_indices=(1, 2, 3),
        init_cfg=dict(type='Pretrained', checkpoint='mmshuffle://mmpretrain/shufflenetv1-x1.0-g3'),
    ),
    neck=dict(in_channels=[240, 480, 960]),
)
