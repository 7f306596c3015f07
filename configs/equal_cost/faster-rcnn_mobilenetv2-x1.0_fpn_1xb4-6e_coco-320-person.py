# A file under torchvision's names: RGB with ImageNet's mean and standard deviation.
_base_ = './faster-rcnn_shufflenetv2-x0.5_fpn_1xb4-6e_coco-320-person.py'

model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        init_cfg=dict(
            type='PretrainedStrict',
            checkpoint='checkpoints/mobilenet_v2_x1.0_backbone_torchvision-layout.pth',
        ),
        out_indices=(2, 4, 6),
    ),
    neck=dict(in_channels=[32, 96, 320]),
)
