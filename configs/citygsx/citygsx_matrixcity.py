# MatrixCity, aerial, small city: 150 000 views, eight per step, which the processes share.
# One world unit is 100 m.
_base_ = ["./citygsx_building.py"]

data_root = "data/matrixcity/small_city/aerial"
resize = dict(factor=1)
max_iters = 18750  # 150 000 / 8

model = dict(
    anchors=dict(default_voxel_size=0.0005),
    objective=dict(
        single_view_weight_from_iter=20000,
        dpt_loss_from_iter=20000,
        dpt_end_iter=50000,
        multi_view_weight_from_iter=50000,
        multi_view_patch_size=11,
    ),
)
train_dataloader = dict(
    batch_size=8,
    sampler=dict(batch_size=8),
    dataset=dict(
        data_root=data_root,
        split_by="none",
        sparse_dir="train/block_all/sparse/0",
        image_dir="train/block_all/images",
        depth_dir="train/block_all/depth",
        mask_dir=None,  # "train/block_all/mask", written by mmcity data filter-depth
        resize=resize,
        multi_view_max_angle=15.0,
        multi_view_max_dis=25.0,
    ),
)
test_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        split="all",
        split_by="none",
        sparse_dir="test/block_all_test/sparse/0",
        image_dir="test/block_all_test/images",
        resize=resize,
        require_points=False,
    )
)
val_dataloader = test_dataloader
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(
        type="ExponentialDecayLR",
        groups=["anchors.positions", "anchors.offsets", "decoder.opacity_mlp."],
        final_ratio=0.01,
        end=6250,  # 50 000 / 8
    ),
    dict(type="ExponentialDecayLR", groups=["decoder.color_mlp."], final_ratio=0.00625, end=6250),
]
