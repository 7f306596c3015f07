# From pretrained weights of the stages, without the published Conv5, to ten classes.
_base_ = ['../../_base_/imagenet10.py', '../../_base_/imagenet_finetune.py']

model = dict(
    backbone=dict(
        type='ShuffleNetV2',
        widen_factor=0.5,
        layout='torchvision',
        out_indices=(3,),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.pytorch.org/models/shufflenetv2_x0.5-f707e7126e.pth',
        ),
    ),
    head=dict(in_channels=192, num_classes=10),
)
