_base_ = [
    '../../_base_/models/squeezenet.py',
    '../../_base_/datasets/imagenet_caffe.py',
    '../../_base_/schedules/imagenet_bs512_170k_squeezenet.py',
    '../../_base_/imagenet_runtime.py',
]

train_dataloader = dict(batch_size=64)
