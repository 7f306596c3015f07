# RetinaFace's file: RGB with ImageNet's mean and standard deviation.
_base_ = './faster-rcnn_shufflenetv2-x0.5_fpn_1xb4-6e_coco-320-person.py'

model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(
        _delete_=True,
        type='MobileNetV1',
        widen_factor=0.25,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/mobilenetV1X0.25_pretrain.tar'),
        out_indices=(1, 2, 3),
    ),
    neck=dict(in_channels=[64, 128, 256]),
)
