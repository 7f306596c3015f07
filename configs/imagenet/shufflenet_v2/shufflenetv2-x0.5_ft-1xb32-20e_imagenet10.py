# From pretrained weights to ten classes. The last layers learn faster: the classifier is new, and
# so is Conv5 where the weights have none (allow_missing=['stages.4.'] in init_cfg).
_base_ = [
    '../../_base_/models/shufflenet_v2.py',
    '../../_base_/datasets/imagenet10.py',
    '../../_base_/schedules/imagenet10_bs32_20e.py',
    '../../_base_/imagenet10_runtime.py',
]

model = dict(
    backbone=dict(
        widen_factor=0.5,
        layout='torchvision',
        init_cfg=dict(type='Pretrained', checkpoint='mmshuffle://torchvision/shufflenetv2-x0.5'),
    ),
    head=dict(num_classes=10, bias=True),
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'stages.4': dict(lr_mult=4.0), 'head': dict(lr_mult=4.0)})
)
