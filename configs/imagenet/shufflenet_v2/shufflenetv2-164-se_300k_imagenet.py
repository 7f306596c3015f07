_base_ = ['../../_base_/imagenet.py', '../../_base_/imagenet_300k.py']

model = dict(
    backbone=dict(type='ShuffleNetV2', arch='164', se_ratio=0.5, residual=True, out_indices=(4,)),
    head=dict(in_channels=2048, bias=False, dropout=0.2),
)
