# Blood cells: 205 training, 87 validation and 72 test images of 3 classes.
_base_ = './faster-rcnn_shufflenetv2-x0.5_fpn_1xb4-12e_coco.py'

data_root = 'data/bccd/'
dataset = dict(
    data_root=data_root,
    data_prefix=dict(img='JPEGImages/'),
    metainfo=dict(classes=('Platelets', 'RBC', 'WBC')),
)
model = dict(roi_head=dict(bbox_head=dict(num_classes=3)))
train_dataloader = dict(dataset=dict(ann_file='instances_train.json', **dataset))
val_dataloader = dict(dataset=dict(ann_file='instances_val.json', **dataset))
test_dataloader = dict(dataset=dict(ann_file='instances_test.json', **dataset))
val_evaluator = dict(ann_file=data_root + 'instances_val.json')
test_evaluator = dict(ann_file=data_root + 'instances_test.json')
