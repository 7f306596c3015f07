_base_ = [
    '../../_base_/models/alexnet.py',
    '../../_base_/datasets/imagenet_caffe.py',
    '../../_base_/schedules/imagenet_bs256_450k_alexnet.py',
    '../../_base_/imagenet_runtime.py',
]

train_dataloader = dict(batch_size=32)
