# Yolo-FastestV2's backbone under torchvision's names: BGR from 0 to 1.
_base_ = '../finetune/faster-rcnn_shufflenetv2-x0.5_fpn_1xb4-12e_bccd.py'

model = dict(
    data_preprocessor=dict(mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0], bgr_to_rgb=False),
    backbone=dict(
        init_cfg=dict(checkpoint='checkpoints/shufflenet_v2_x0.5_backbone_torchvision-layout.pth')
    ),
)
