# Fine-tuning on a small set of one's own: hundreds of images, minutes on a CPU. A config for a data
# set inherits this one and says only where the data is; bccd.py is an example.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    '../_base_/coco_detection_320.py',
    '../_base_/runtime.py',
]

# A quarter of the usual channels, 128 RoIs of 300 proposals and two samples a bin: half the time of
# a step on a CPU. BatchNorm is trained everywhere: frozen statistics of ImageNet end at AP 0 here.
model = dict(
    backbone=dict(
        _delete_=True,
        type='ShuffleNetV2',
        widen_factor=0.5,
        layout='torchvision',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.pytorch.org/models/shufflenetv2_x0.5-f707e7126e.pth',
        ),
    ),
    neck=dict(in_channels=[24, 48, 96, 192], out_channels=64, norm_cfg=dict(type='BN')),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, roi_layer=dict(sampling_ratio=2)),
        bbox_head=dict(in_channels=64, fc_out_channels=256),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=300), rcnn=dict(sampler=dict(num=128))
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=300)),
)

epochs = 12
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=epochs)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=35),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', begin=0, end=epochs, T_max=epochs, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=4)
