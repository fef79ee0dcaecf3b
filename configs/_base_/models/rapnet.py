# RAPNet with its training objective as published (Li et al., 2024).
model = dict(
    type="RAPTrainer",
    network=dict(
        type="RAPNet",
        backbone=dict(width=1.0, drop_connect=0.2),  # EfficientNet-B0 up to stride 16
        pretrained="efficientnet_b0_imagenet",  # mmcity weights get efficientnet_b0_imagenet
        hidden_dim=256,
        num_heads=4,
        feedforward_dim=256,
        num_encoder_layers=6,
        dropout=0.1,
        activation="gelu",
        freeze_batch_norm=True,  # keeps the statistics that the weights bring
        guarded_rotation=False,  # True: degenerate outputs still give a rotation
    ),
    # Compares features of photographs and renders; None trains without it.
    discriminator=dict(type="FeatureDiscriminator", large=False, dropout=0.25),
    objective=dict(
        type="JointObjective",
        pose=dict(
            type="GeometricPoseLoss",
            learnable=True,  # exp(-s) weights; False: s_x and s_q are the weights themselves
            train_weights=False,  # True really optimises s_x and s_q
            norm=2,
            s_x=-3.0,
            s_q=-6.5,
        ),
        # VICRegLoss (invariance=25.0, variance=25.0, covariance=1.0), HardTripletLoss,
        # NTXentLoss or FeatureMSELoss
        feature=dict(type="VICRegLoss"),
        weights=(1.0, 1.0, 1.0, 0.7),  # pose, feature, perturbed pose, generator
    ),
    compile_networks=False,  # True: torch.compile, faster after a minute of warm-up
    use_rendered=True,  # train on renders at the poses of the photographs
    use_perturbed=True,  # train on renders at perturbed poses
    data_preprocessor=dict(type="LocalizationPreprocessor", size=None),
)

# With several processes: each takes other photographs, and the gradients of both optimisers are
# averaged.
model_wrapper_cfg = dict(type="mmcity.ReplicatedModel")
