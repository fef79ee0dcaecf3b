# A scene of Gaussians as published (3D Gaussian Splatting, Kerbl et al. 2023).
model = dict(
    type="GaussianSplatting",
    sh_degree=3,  # view dependence of colours: 0 (none) to 3; memory grows with (degree + 1)^2
    sh_degree_interval=1000,  # iterations after which one more degree takes part
    init=dict(
        source="points",  # "points" of the capture, or "random" where it has none
        opacity=0.1,
        scale_factor=1.0,  # first scale over the distance to the next three points
    ),
    renderer=dict(
        type="SplatRenderer",
        antialiased=False,  # True: the look does not change with the resolution
        # Behind the Gaussians: ConstantBackground, LearnedBackground,
        # SphericalHarmonicsBackground or EnvironmentMapBackground (skies). The first with
        # random_in_training=True leaves no holes of its colour.
        background=dict(type="ConstantBackground", color=(0.0, 0.0, 0.0)),
    ),
    # Colours per photograph: exposure=dict(type="AffineExposure") or "BilateralGridExposure".
    coverage_views=2,  # training frames that hold a point which counts in psnr_covered
    losses=dict(
        loss_l1=dict(type="L1Loss", loss_weight=0.8),
        loss_ssim=dict(type="SSIMLoss", loss_weight=0.2),
    ),
)

# With several processes: gradients are averaged, edits of the scene follow rank 0.
model_wrapper_cfg = dict(type="mmcity.ReplicatedScene")
