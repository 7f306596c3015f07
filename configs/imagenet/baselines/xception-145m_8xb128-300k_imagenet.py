_base_ = [
    '../../_base_/models/xception_like.py',
    '../../_base_/datasets/imagenet.py',
    '../../_base_/schedules/imagenet_bs1024_300k.py',
    '../../_base_/imagenet_runtime.py',
]
