# A quarter of the papers' training, for comparisons before a long run: 75k steps of 1024 images.
_base_ = './imagenet_bs1024_300k.py'

epochs = 60
train_cfg = dict(max_epochs=epochs, val_interval=5)
param_scheduler = [
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=epochs, convert_to_iter_based=True)
]
