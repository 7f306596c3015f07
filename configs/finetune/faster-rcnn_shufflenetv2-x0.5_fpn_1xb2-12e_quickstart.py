# The set that tools/quickstart.py draws, from scratch, in minutes on a CPU: many small steps on
# small images. Objects are large enough for a detector that starts at stride 8.
_base_ = './faster-rcnn_shufflenetv2-x0.5_fpn_1xb4-12e_coco.py'

strides = [8, 16, 32]
model = dict(
    backbone=dict(out_indices=(1, 2, 3), init_cfg=None),
    neck=dict(in_channels=[48, 96, 192], num_outs=3),
    rpn_head=dict(anchor_generator=dict(scales=[3], strides=strides)),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=strides, roi_layer=dict(sampling_ratio=1)),
        bbox_head=dict(reg_class_agnostic=True),
    ),
    train_cfg=dict(rcnn=dict(sampler=dict(num=64))),
)

train_pipeline = [
    dict(type='LoadImage', max_unreadable=10),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(320, 240), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(320, 240), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=0.03))
train_cfg = dict(val_interval=3)
auto_scale_lr = dict(base_batch_size=2)
