# People, who are half of the boxes of COCO at short side 320: 6 epochs on 1787 images.
_base_ = '../finetune/faster-rcnn_shufflenetv2-x0.5_fpn_1xb4-12e_coco_320.py'

dataset = dict(metainfo=dict(classes=('person',)))
model = dict(
    data_preprocessor=dict(mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0], bgr_to_rgb=False),
    backbone=dict(
        init_cfg=dict(checkpoint='checkpoints/shufflenet_v2_x0.5_backbone_torchvision-layout.pth')
    ),
    roi_head=dict(bbox_head=dict(num_classes=1)),
)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader

epochs = 6
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', begin=0, end=epochs, T_max=epochs, convert_to_iter_based=True),
]
