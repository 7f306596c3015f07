_base_ = [
    '../../_base_/models/shufflenet_v1.py',
    '../../_base_/datasets/imagenet10_112px.py',
    '../../_base_/schedules/imagenet10_bs32_16e.py',
    '../../_base_/imagenet10_runtime.py',
]

model = dict(backbone=dict(widen_factor=0.5), head=dict(in_channels=480, num_classes=10, bias=True))
default_hooks = dict(checkpoint=dict(interval=16, save_optimizer=False))
