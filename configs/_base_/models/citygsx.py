# Octree anchors with geometry losses as published (CityGS-X, 2025), defects mended; the
# original's behaviour is behind the switches named legacy_* and the values in comments.
# All iterations are counted in views.
model = dict(
    type="CityGSX",
    feat_dim=32,  # width of an anchor's feature
    n_offsets=10,  # Gaussians per anchor
    anchors=dict(
        fork=2,  # ratio of voxel edges between levels
        default_voxel_size=0.001,  # world units; larger: fewer anchors, less memory
        base_layer=-1,  # -1: derived from the voxel size
        levels=-1,  # -1: derived from the distances between cameras and points
        init_level=-1,  # -1: half of the levels take part at first
        extend=1.1,
        dist_ratio=0.999,
        visible_threshold=0.01,  # share of the cameras that must want an anchor
        dist2level="round",  # round, floor, ceil; progressive: cross-fade between levels
        progressive=True,  # coarse levels first
        coarse_iter=10000,
        coarse_factor=1.5,
        legacy_box=False,
    ),
    decoder=dict(
        use_feat_bank=False,
        appearance_dim=0,  # above 0: colours per photograph (add the optimiser's schedule)
        add_opacity_dist=False,
        add_cov_dist=False,
        add_color_dist=False,
        add_level=False,
    ),
    objective=dict(
        type="CityGSXObjective",
        lambda_dssim=0.2,
        scale_loss_from_iter=0,
        scale_weights=(10.0, 4.0),
        scale_unit="world",  # "extent": weights do not depend on the unit of the capture
        use_single_view_loss=True,
        single_view_weight=0.015,
        single_view_weight_from_iter=10000,
        legacy_normal_nograd=False,
        use_dpt_loss=True,
        dpt_loss_from_iter=10000,
        dpt_end_iter=50000,
        depth_l1_weight_init=1.0,
        depth_l1_weight_final=0.01,
        depth_schedule="from_start",  # the original: "legacy"
        stop_dpt_at_end=False,
        use_multi_view_loss=True,
        multi_view_weight_from_iter=10000,
        multi_view_patch_size=3,
        multi_view_ncc_weight=0.15,
        multi_view_geo_weight=0.03,  # the original: 0
        multi_view_samples=102400,
        multi_view_interval=1,  # every n-th step, n times as strong: a second render costs
        wo_use_geo_occ_aware=False,
        # also: extra_losses=dict(loss_mine=dict(type="MyLoss")), losses of your own
    ),
    # also: background=dict(type="SphericalHarmonicsBackground"), and for colours per photograph
    # exposure=dict(type="AffineExposure", test_exposure="neighbours")
    white_background=False,
    near_plane=0.01,
    antialiased=False,
    ape_code=0,
    resolution_schedule=None,  # [(0, 2), (1000, 1)]: half size for 1000 views
)

# With several processes each holds a part of the anchors and renders a part of the pictures.
model_wrapper_cfg = dict(
    type="mmcity.ShardedScene",
    division="rows",  # "views": whole pictures
    balance="entries",  # "uniform": rows cost the same
    cost_decay=0.0,  # share of a row's former cost that stays
    border=1.0,  # rows of tiles; shares that end so near a picture's edge end on it
    checkpoint="sharded",  # "merged": one file
    max_imbalance=1.1,  # ratio of most to fewest anchors that moves them
)
