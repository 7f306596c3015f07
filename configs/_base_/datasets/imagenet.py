# ImageNet-1k in class folders, data/imagenet/{train,val}/n*/*.JPEG.
data_root = 'data/imagenet/'
train_pipeline = [
    # The paper's scale augmentation is "slightly less aggressive" than ResNeXt's (0.08, 1.0); its
    # bounds are not printed.
    dict(type='LoadRandomResizedCrop', size=224, scale=(0.2, 1.0), max_unreadable=10),
    dict(type='RandomFlip', prob=0.5),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
    dict(type='PackClassInputs'),
]
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize', scale=(256, 100000), keep_ratio=True),  # the short side to 256
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackClassInputs'),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageFolder', data_root=data_root, data_prefix='train', pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageFolder',
        data_root=data_root,
        data_prefix='val',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
