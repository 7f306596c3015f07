_base_ = [
    '../../_base_/models/shufflenet_v1.py',
    '../../_base_/datasets/imagenet.py',
    '../../_base_/schedules/imagenet_bs1024_300k.py',
    '../../_base_/imagenet_runtime.py',
]
