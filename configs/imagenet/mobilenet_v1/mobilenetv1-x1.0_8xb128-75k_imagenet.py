_base_ = [
    '../../_base_/models/mobilenet_v1.py',
    '../../_base_/datasets/imagenet_mobilenet.py',
    '../../_base_/schedules/imagenet_bs1024_75k_mobilenet.py',
    '../../_base_/imagenet_runtime.py',
]
