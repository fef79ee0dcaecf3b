"""The pose network against its plain form."""

import torch
from torch import Tensor, nn

from mmcity.models.rap import RAPNet
from mmcity.structures.geometry import rotation_6d_to_rotmat

from .clocks import best_ms


class _PlainBlock(nn.Module):
    """Inverted bottleneck as model zoos write it: one module after the other."""

    def __init__(self, c_in, c_out, expand, kernel, stride, shortcut) -> None:
        super().__init__()
        hidden, odd = c_in * expand, (kernel - 1) // 2
        pad = (odd, odd, odd, odd) if stride == 1 else (odd - 1, odd, odd - 1, odd)
        layers = []
        if expand != 1:
            layers += [nn.Conv2d(c_in, hidden, 1, bias=False), nn.BatchNorm2d(hidden, 1e-3)]
            layers.append(nn.SiLU())
        layers += [
            nn.ZeroPad2d(pad),
            nn.Conv2d(hidden, hidden, kernel, stride, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden, 1e-3),
            nn.SiLU(),
        ]
        self.spatial = nn.Sequential(*layers)
        squeezed = max(1, c_in // 4)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(hidden, squeezed, 1),
            nn.SiLU(),
            nn.Conv2d(squeezed, hidden, 1),
            nn.Sigmoid(),
        )
        self.project = nn.Sequential(
            nn.Conv2d(hidden, c_out, 1, bias=False), nn.BatchNorm2d(c_out, 1e-3)
        )
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)``."""
        out = self.spatial(x)
        out = self.project(out * self.gate(out))
        return out + x if self.shortcut else out


class _PlainEncoder(nn.Module):
    """Pre-norm encoder on ``nn.MultiheadAttention``; all tokens pass all layers."""

    def __init__(self, dim: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.attention = nn.ModuleList(
            nn.MultiheadAttention(dim, heads, batch_first=True) for _ in range(layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2 * layers))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Tokens after all layers, shaped as ``x``."""
        for row, (attention, mlp) in enumerate(zip(self.attention, self.mlps)):
            normed = self.norms[2 * row](x)
            placed = normed + positions
            x = x + attention(placed, placed, normed, need_weights=False)[0]
            x = x + mlp(self.norms[2 * row + 1](x))
        return self.norm(x)[:, 0]


class PlainRAPNet(nn.Module):
    """The same network without any of the toolbox's shortcuts, with the weights of another.

    It stops after stride 16, as ``features_only`` backbones do.
    """

    def __init__(self, net) -> None:
        super().__init__()
        self.net = net  # positions, tokens, input projections and heads are plain already
        backbone = net.backbone
        self.stem = nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)),
            nn.Conv2d(3, backbone.stem.out_channels, 3, 2, bias=False),
            nn.BatchNorm2d(backbone.stem.out_channels, 1e-3),
            nn.SiLU(),
        )
        _copy([backbone.stem, backbone.stem_norm], [self.stem[1], self.stem[2]])
        self.blocks = nn.ModuleList(_plain_block(block) for block in backbone.blocks)
        self.strides = backbone._strides
        self.encoders = nn.ModuleList(
            _plain_encoder(branch.encoder) for branch in (net.translation, net.rotation)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Poses ``(B, 12)``, rows of ``(3, 4)``, of images ``(B, 3, H, W)``."""
        x, levels = self.stem(images), {}
        for block, stride in zip(self.blocks, self.strides):
            x = block(x)
            levels[stride] = x
        out = []
        branches = (self.net.translation, self.net.rotation)
        for branch, encoder, stride in zip(branches, self.encoders, self.net.STRIDES):
            features = branch.input_proj(levels[stride])
            positions = torch.cat(self.net.positions(*features.shape[-2:]))
            tokens = features.flatten(2).transpose(1, 2)
            tokens = torch.cat([branch.token.expand(len(tokens), 1, -1), tokens], 1)
            out.append(branch.head(encoder(tokens, positions)))
        rotmats = rotation_6d_to_rotmat(out[1], guarded=self.net.guarded_rotation)
        return torch.cat([rotmats, out[0][..., None]], -1).flatten(1)


def _copy(sources, targets) -> None:
    for source, target in zip(sources, targets):
        target.load_state_dict(source.state_dict())


def _plain_block(block) -> _PlainBlock:
    depthwise = block.depthwise
    hidden, c_out = depthwise.in_channels, block.project.out_channels
    c_in = hidden if block.expand is None else block.expand.in_channels
    plain = _PlainBlock(
        c_in, c_out, hidden // c_in, depthwise.kernel_size[0], depthwise.stride[0],
        block.has_shortcut,
    )  # fmt: skip
    spatial = [m for m in plain.spatial if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    sources = [block.depthwise, block.depthwise_norm]
    if block.expand is not None:
        sources = [block.expand, block.expand_norm, *sources]
    _copy(sources, spatial)
    _copy([block.squeeze, block.excite], [plain.gate[1], plain.gate[3]])
    _copy([block.project, block.project_norm], plain.project)
    return plain


def _plain_encoder(encoder) -> _PlainEncoder:
    first = encoder.layers[0]
    dim, hidden = first.linear1.in_features, first.linear1.out_features
    plain = _PlainEncoder(dim, first.heads, hidden, len(encoder.layers))
    for row, layer in enumerate(encoder.layers):
        attention = plain.attention[row]
        attention.in_proj_weight.data.copy_(layer.in_proj.weight)
        attention.in_proj_bias.data.copy_(layer.in_proj.bias)
        _copy(
            [layer.out_proj, layer.norm1, layer.norm2, layer.linear1, layer.linear2],
            [attention.out_proj, *plain.norms[2 * row : 2 * row + 2], *plain.mlps[row][::2]],
        )
    _copy([encoder.norm], [plain.norm])
    return plain


@torch.no_grad()
def measure_localization(
    size: tuple[int, int] = (240, 427),
    batch: int = 1,
    repeats: int = 5,
    threads: int = 1,
    width: float = 1.0,
) -> dict[str, float]:
    """Time both forms of the network.

    Args:
        size: Height and width of the images. Defaults to (240, 427).
        batch: Images at once. Defaults to 1.
        repeats: Repetitions, of which the least counts. Defaults to 5.
        threads: CPU threads. Defaults to 1.
        width: Of the backbone. Defaults to 1.0.

    Returns:
        CPU milliseconds per image (``ms_net``, ``ms_plain``), and the largest ``difference`` of
        their poses.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net = RAPNet(backbone=dict(width=width)).eval()
    plain = PlainRAPNet(net).eval()
    images = torch.randn(batch, 3, *size)
    difference = float((net(images) - plain(images)).abs().max())
    # In turns, so that other load on the machine meets both; a first call of each warms up.
    pairs = [
        [best_ms(lambda form=form: form(images), 2) / batch for form in (net, plain)]
        for _ in range(repeats)
    ]
    ms_net, ms_plain = map(min, zip(*pairs))
    return {"ms_net": ms_net, "ms_plain": ms_plain, "difference": difference}
