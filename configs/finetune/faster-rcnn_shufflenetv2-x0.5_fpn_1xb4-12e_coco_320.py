# COCO images scaled to a short side of 320, in COCO's own layout. 80 classes from few images: one
# box regressor for all of them, and no outputs at stride 4, which would cost half of the time.
_base_ = './faster-rcnn_shufflenetv2-x0.5_fpn_1xb4-12e_coco.py'

strides = [8, 16, 32, 64]
model = dict(
    backbone=dict(out_indices=(1, 2, 3)),
    neck=dict(in_channels=[48, 96, 192], num_outs=4),
    rpn_head=dict(anchor_generator=dict(scales=[4], strides=strides)),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=strides[:3]),
        bbox_head=dict(reg_class_agnostic=True),
    ),
)

data_root = 'data/coco_320/'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json', classwise=True)
test_evaluator = val_evaluator
