# From pretrained weights to ten classes. The last layers learn faster: the classifier is new, and
# so is Conv5 where the weights have none (allow_missing=['stages.4.'] in init_cfg).
_base_ = ['../../_base_/imagenet10.py', '../../_base_/imagenet_finetune.py']

model = dict(
    backbone=dict(
        type='ShuffleNetV2',
        widen_factor=0.5,
        layout='torchvision',
        out_indices=(4,),
        init_cfg=dict(type='Pretrained', checkpoint='mmshuffle://torchvision/shufflenetv2-x0.5'),
    ),
    head=dict(in_channels=1024, num_classes=10),
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'stages.4': dict(lr_mult=4.0), 'head': dict(lr_mult=4.0)})
)
