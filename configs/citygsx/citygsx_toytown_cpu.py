# The toy town, which the toolbox makes itself, on two CPU cores:
#   python tools/dataset_converters/create_toytown.py --out data/toytown --formats citygsx
#   python tools/train.py configs/citygsx/citygsx_toytown_cpu.py
_base_ = ["./citygsx_colmap_cpu.py"]

data_root = "data/toytown/citygsx"

train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        depth_dir="train/depths",
        multi_view_max_dis=60.0,  # metres
        multi_view_max_angle=45.0,
        multi_view_min_num=1,
    )
)
test_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = test_dataloader
