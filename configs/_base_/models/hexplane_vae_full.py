# HexPlane VAE at the size of the paper: 16 x 128 x 128 x 8 clips of CarlaSC, 1,699,288 parameters.
# The diffusion configs name the same one, to decode.
vae_model = dict(
    type="HexPlaneVAE",
    num_classes=12,  # label slots; class 0 is free
    spatial_size=(128, 128, 8),  # X, Y, Z voxels
    sequence_length=16,  # frames of a clip
    latent_channels=16,
    query_channels=64,
    down=(1, 1, 1),  # halvings of x, y, z on voxels
    hex_down=(1, 0, 0, 0),  # halvings of t, x, y, z on planes
    vae=True,
    # encoder: 3D convolutions, then the Projection Module
    separate_t_encoder=True,
    one_hot_time=True,
    separate_t_reducer=True,
    projector="transformer",  # "average" is the ablation's baseline
    transformer_depth=2,
    transformer_heads=2,
    transformer_dim_mlp=32,
    dropout=0.1,
    readout="first",  # what published checkpoints were trained with
    # decoder: Expansion & Squeeze
    decoder_type="conv",  # "query" is the ablation's baseline
    hadamard=True,  # multiply the six planes; False adds them
    pe_freq=3,
    conv_hidden_low_res=128,
    conv_hidden_high_res=32,
    mlp_hidden_channels=256,
    mlp_hidden_layers=4,
    # voxel counts of the unified classes in the CarlaSC training split
    class_frequencies=[
        3763643297,
        39644538,
        35784542,
        7132457,
        546581,
        2428186,
        187960416,
        73801722,
        105036782,
        20811569,
        9942710,
        0,
    ],
    loss_weights=dict(ce=1.0, lovasz=1.0, kl=0.0015),
    with_checkpoint=False,  # True trades time for memory
)
