# Converted from the authors' Caffe release: BGR minus the mean.
# Outputs at strides 4, 8 and 16; FPN halves the last for the levels behind it.
_base_ = './faster-rcnn_shufflenetv2-x0.5_fpn_1xb4-12e_bccd-equal-cost.py'

model = dict(
    data_preprocessor=dict(mean=[103.939, 116.779, 123.68], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(
        _delete_=True,
        type='SqueezeNet',
        version='1.1',
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/squeezenet_1.1_torchvision-layout.pth'
        ),
    ),
    neck=dict(in_channels=[128, 256, 512]),
)
