# The toy town, which the toolbox makes itself, on two CPU cores:
#   mmcity data toytown --out data/toytown --formats citygsx \
#       --num-images 80
#   python tools/train.py configs/citygsx/citygsx_toytown_cpu.py
_base_ = ["./citygsx_colmap_cpu.py"]

data_root = "data/toytown/citygsx"
max_anchors = 13_000  # half the bytes of 30 000 plain Gaussians

model = dict(
    anchors=dict(default_voxel_size=4.0),  # metres
    exposure=None,  # all pictures have one camera setting
    objective=dict(
        single_view_weight_from_iter=1000,
        dpt_loss_from_iter=1000,
        multi_view_weight_from_iter=1500,
        multi_view_samples=4000,
        multi_view_interval=2,
    ),
)
default_hooks = dict(growth=dict(strategy=dict(max_anchors=max_anchors)))
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
