# Gaussians whose colours follow a reference photograph, with exposure paths, as published.
model = dict(
    type="AppearanceGaussians",
    use_color_net=True,  # False: spherical harmonics, no appearance
    base_colors=False,  # True starts at the colours of the points; published weights: False
    sh_degree=3,  # used where use_color_net=False
    appearance=dict(
        type="AppearanceModel",
        # One map is projected, the others are sampled; False samples all of them.
        use_projection=True,
        box_loss_weight=0.001,
        map_generator=dict(
            type="AppearanceMapGenerator",
            num_maps=3,
            width=1.0,  # 0.25 costs about an eighth; published weights: 1
            batch_norm_eval=False,  # published weights: False, and train mode when rendering
        ),
        color_net=dict(
            type="AppearanceColorNet",
            appearance_dim=48,  # 16 channels for each map
            dropout=0.1,
        ),
    ),
    coord_scale=1.0,
    learn_sampled_coords=True,  # False: only the projected box is learnt
    init=dict(opacity=0.1, scale_factor=1.0),
    renderer=dict(
        type="SplatRenderer",
        antialiased=True,
        depth_mode="expected",  # "accumulated": as published; in renders and in the depth loss
        background=dict(type="ConstantBackground", color=(0.0, 0.0, 0.0)),  # 1.0: white
    ),
    random_background=False,
    # Paths during the exposure: linear, spline or bezier; None for sharp photographs.
    motion=dict(mode="linear", num_samples=2, bezier_order=7, non_uniform=False),
    losses=dict(
        loss_l1=dict(type="L1Loss", loss_weight=0.8),
        loss_ssim=dict(type="SSIMLoss", loss_weight=0.2),
        # With weights on disk (published: pictures as they are, in [0, 1]):
        # loss_lpips=dict(type="LPIPSLoss", weights=..., loss_weight=0.005, rescale=False),
        # loss_scale=dict(type="ScaleLoss", loss_weight=0.005),
    ),
    depth_weight=None,  # (1.0, 0.01): with depth_dir of the dataset
    depth_iterations=30_000,
    feature_mask=False,  # learn which parts of photographs fit no static scene
    feature_mask_start=2500,
    feature_mask_weight=0.15,
    compile_networks=False,
)

# With several processes: gradients are averaged, edits of the scene follow rank 0.
model_wrapper_cfg = dict(type="mmcity.ReplicatedScene")
