# Blood cells with one stage: GFL, as narrow as the Faster R-CNN beside it.
_base_ = [
    '../_base_/models/gfl_pafpn.py',
    '../_base_/datasets/coco_detection_320.py',
    '../_base_/schedules/detection_bs4_12e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        type='ShuffleNetV2',
        widen_factor=0.5,
        layout='torchvision',
        out_indices=(1, 2, 3),
        init_cfg=dict(type='Pretrained', checkpoint='mmshuffle://torchvision/shufflenetv2-x0.5'),
    ),
    neck=dict(in_channels=[48, 96, 192], out_channels=64, norm_cfg=dict(type='BN')),
    bbox_head=dict(num_classes=3, in_channels=64, feat_channels=64),
)

data_root = 'data/bccd/'
dataset = dict(
    data_root=data_root,
    data_prefix=dict(img='JPEGImages/'),
    metainfo=dict(classes=('Platelets', 'RBC', 'WBC')),
)
train_dataloader = dict(batch_size=4, dataset=dict(ann_file='instances_train.json', **dataset))
val_dataloader = dict(dataset=dict(ann_file='instances_val.json', **dataset))
test_dataloader = dict(dataset=dict(ann_file='instances_test.json', **dataset))
val_evaluator = dict(ann_file=data_root + 'instances_val.json')
test_evaluator = dict(ann_file=data_root + 'instances_test.json')

epochs = 18
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', begin=0, end=epochs, T_max=epochs, convert_to_iter_based=True),
]
