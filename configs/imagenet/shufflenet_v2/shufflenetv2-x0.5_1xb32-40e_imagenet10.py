# Ten classes from random weights.
_base_ = [
    '../../_base_/models/shufflenet_v2.py',
    '../../_base_/datasets/imagenet10.py',
    '../../_base_/schedules/imagenet10_bs32_40e.py',
    '../../_base_/imagenet10_runtime.py',
]

model = dict(backbone=dict(widen_factor=0.5), head=dict(num_classes=10, bias=True))
