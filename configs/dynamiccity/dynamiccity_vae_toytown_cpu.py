# A small VAE on toy towns written as CarlaSC, for two CPU cores:
#   python tools/dataset_converters/create_toytown.py --out data/toytown --formats carlasc
_base_ = ["./dynamiccity_vae_semantickitti_cpu.py"]
data_root = "data/toytown/carlasc/Cartesian"
sequence_length = 8
crop = (64, 64, 8)

model = dict(class_frequencies=None)
dataset = dict(
    _delete_=True,
    type="CarlaSCOccSequence",
    data_root=data_root,
    sequence_length=sequence_length,
    crop=crop,  # about the car, from the lowest layer
)
train_dataloader = dict(
    dataset=dict(
        split="Train",
        pipeline=[
            dict(type="FlipXYT", prob=0.9),
            dict(type="PackOccInputs", with_target=False),
        ],
        **dataset,
    ),
)
val_dataloader = dict(
    dataset=dict(split="Test", stride=4, pipeline=[dict(type="PackOccInputs")], **dataset),
)
test_dataloader = val_dataloader
