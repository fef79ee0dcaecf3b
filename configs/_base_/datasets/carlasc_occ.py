# CarlaSC (Cartesian): Train / Val / Test with towns below.
data_root = "data/carlasc/Cartesian"
sequence_length = 16

train_dataloader = dict(
    batch_size=1,  # per process; the paper trained 8 x 1
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="CarlaSCOccSequence",
        data_root=data_root,
        split="Train",
        sequence_length=sequence_length,
        skip=0,  # frames left out between two of a clip
        pipeline=[
            dict(type="FlipXYT", prob=0.0),  # probability of a random flip of x, y, t
            dict(type="PackOccInputs", with_target=False),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CarlaSCOccSequence",
        data_root=data_root,
        split="Test",
        sequence_length=sequence_length,
        pipeline=[dict(type="PackOccInputs")],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="OccIoU", num_classes=12)
test_evaluator = val_evaluator
