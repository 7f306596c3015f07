_base_ = [
    '../_base_/models/ssdlite.py',
    '../_base_/datasets/coco_detection_320x320.py',
    '../_base_/schedules/detection_bs192_120e_sgd.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        type='ShuffleNetV1',
        groups=3,
        widen_factor=1.0,
        out_indices=(2, 3),
        init_cfg=dict(type='Pretrained', checkpoint='mmshuffle://mmpretrain/shufflenetv1-x1.0-g3'),
    ),
    neck=dict(in_channels=(480, 960), out_channels=(480, 960, 512, 256, 256, 128)),
    bbox_head=dict(in_channels=(480, 960, 512, 256, 256, 128)),
)
