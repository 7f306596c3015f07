# The training of the ShuffleNet papers (V1, section 4): 300k steps of 1024 images, learning rate
# 0.5 falling linearly to 0, weight decay 4e-5. The authors' release leaves BatchNorm and biases out
# of the decay.
# 300k x 1024 / 1281167 images. Counted in epochs, a run goes on from a checkpoint without reading
# the data again that it has seen, and does not depend on how many batches make a step.
epochs = 240
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.5, momentum=0.9, weight_decay=4e-5),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=epochs, convert_to_iter_based=True)
]
# --accumulate auto reaches it on fewer cards; 8 with 128 images each have it.
auto_scale_lr = dict(enable=False, base_batch_size=1024)
