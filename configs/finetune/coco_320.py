# COCO images scaled to a short side of 320, in COCO's own layout.
_base_ = './faster-rcnn_shufflenetv2-x0.5_fpn_finetune.py'

data_root = 'data/coco_320/'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json', classwise=True)
test_evaluator = val_evaluator
