"""Time and memory per frame of StreamVGGT for every cache policy.

``naive`` is the plain way to write such a network: keys and values before norm and rotation
are concatenated to the history, the whole history is normalised and rotated again in every
frame, attention takes a dense mask, and the outputs of all layers are kept.
"""

import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from mmcity.models.layers import apply_rope
from mmcity.models.streamvggt import StreamVGGT
from mmcity.utils.fileio import atomic_path

SIZES = {
    # name: embed_dim, depth, heads, image (H, W), patch transformer's depth (0: convolution)
    "tiny": (64, 4, 4, (56, 84), 0),
    "small": (192, 6, 6, (112, 154), 0),
    "medium": (192, 6, 6, (196, 280), 0),
    "large2": (1024, 2, 16, (154, 518), 1),
    "1b": (1024, 24, 16, (392, 518), 24),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def build_model(size: str, device: str = "cpu"):
    """A model with random weights and heads in proportion."""
    dim, depth, heads, image, dino_depth = SIZES[size]
    torch.manual_seed(0)
    if size == "1b":
        model = StreamVGGT(track_head=None)
    else:
        layers = tuple(sorted((0, depth // 3, 2 * depth // 3, depth - 1)))
        width = max(8, dim // 128 * 8)
        head = {"features": width, "out_channels": (width,) * 4, "layers": layers}
        model = StreamVGGT(
            aggregator={
                "embed_dim": dim,
                "depth": depth,
                "num_heads": heads,
                "patch_embed": "dino" if dino_depth else "conv",
                "dino_depth": dino_depth,
            },
            camera_head={"trunk_depth": 2, "num_heads": heads, "mlp_ratio": 1.0},
            depth_head=head,
            point_head=head,
            track_head=None,
        )
    return model.eval().to(device), image


class NaiveStream:
    """The plain streaming loop, as a reference for time and memory."""

    def __init__(self, model) -> None:
        self.model = model
        self.history: dict = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all keys and values."""
        return sum(t.nelement() * t.element_size() for pair in self.history.values() for t in pair)

    def _extended(self, key, k, v):
        """Keys and values of all tokens so far."""
        if key in self.history:
            old_k, old_v = self.history[key]
            k, v = torch.cat([old_k, k], dim=2), torch.cat([old_v, v], dim=2)
        self.history[key] = (k, v)
        return k, v

    def attention(self, key, attn, x, rope):
        """Attention of ``x`` to all tokens so far, everything recomputed."""
        qkv = attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        k, v = self._extended(key, k, v)
        q, k = attn.q_norm(q), attn.k_norm(k)
        if rope is not None:
            q, k = apply_rope(q, *rope), apply_rope(k, *rope)
        mask = torch.zeros(q.shape[2], k.shape[2], dtype=q.dtype, device=q.device)
        out = F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), attn_mask=mask)
        return attn.proj(out.to(x.dtype).transpose(1, 2).flatten(2))

    def step(self, images) -> dict:
        """One frame ``(B, 3, H, W)``."""
        model, aggregator = self.model, self.model.aggregator
        images = images[:, None]
        is_first = not self.history
        patches = aggregator.embed_patches(images)
        tokens = aggregator.add_special_tokens(patches, first_frame=0 if is_first else 1)
        grid = [side // model.patch_size for side in images.shape[-2:]]
        rope = aggregator.rope_tables(*grid, tokens.device)
        kept, x = [], tokens.flatten(0, 1)
        for index, (frame, glob) in enumerate(
            zip(aggregator.frame_blocks, aggregator.global_blocks)
        ):
            local = frame(x, rope)
            x = local + glob.ls1(self.attention(index, glob.attn, glob.norm1(local), rope))
            x = x + glob.ls2(glob.mlp(glob.norm2(x)))
            kept.append(torch.cat([local, x], dim=-1)[:, None])
        outputs = model.run_dense_heads(dict(enumerate(kept)), images)

        def attend_of(iteration, layer):
            def attend(q, k, v):
                k, v = self._extended(("camera", iteration, layer), k, v)
                return F.scaled_dot_product_attention(q, k, v)

            return attend

        poses = model.camera_head.refine(kept[-1][:, :, 0], attend_of)
        return {**outputs, "pose_enc": poses[-1]}


def measure_policy(
    model: StreamVGGT,
    image: tuple[int, int],
    policy: str,
    frames: int,
    *,
    cache_dtype: str | None = None,
    dtype: str = "fp32",
    device: str = "cpu",
) -> dict[str, list[float]]:
    """Measure one cache policy; see :func:`measure_streaming`.

    Returns:
        Per frame milliseconds (``ms``) and bytes of the cache and of the process (``cache``,
        ``memory``).
    """
    is_cuda = device.startswith("cuda")
    if policy == "naive":
        session = NaiveStream(model)
        cache = session
    else:
        session = model.stream(policy=policy, cache_dtype=cache_dtype)
        cache = session.cache
    generator = torch.Generator().manual_seed(0)
    rows: dict[str, list[float]] = {"ms": [], "cache": [], "memory": []}
    # CPU time where the CPU computes: it does not count what other programs take.
    clock = time.perf_counter if is_cuda else time.process_time
    for _ in range(frames):
        frame = torch.rand(1, 3, *image, generator=generator).to(device)
        start = clock()
        with (
            torch.no_grad(),
            torch.autocast(torch.device(device).type, dtype=DTYPES[dtype], enabled=dtype != "fp32"),
        ):
            session.step(frame)
        if is_cuda:
            torch.cuda.synchronize()
        rows["ms"].append(1000 * (clock() - start))
        rows["cache"].append(cache.nbytes)
        rows["memory"].append(torch.cuda.memory_allocated() if is_cuda else resident_bytes())
    return rows


def resident_bytes() -> int:
    """Resident memory of this process."""
    status = Path("/proc/self/statm")
    if status.is_file():
        return int(status.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure_streaming(
    size: str = "tiny",
    frames: int = 60,
    policies: Sequence[str] = ("full", "window(8)", "naive"),
    *,
    cache_dtype: str | None = None,
    dtype: str = "fp32",
    device: str = "cpu",
    threads: int = 1,
) -> Iterator[tuple[str, dict[str, list[float]]]]:
    """Measure cache policies on one model with random weights.

    Args:
        size: A key of ``SIZES``. Defaults to ``tiny``.
        frames: Length of the stream. Defaults to 60.
        policies: Cache policies, and ``naive``. Defaults to full, a window of 8, and naive.
        cache_dtype: How the cache is kept. Defaults to None (as it is computed).
        dtype: Of the computation. Defaults to ``fp32``.
        device: Defaults to ``cpu``.
        threads: CPU threads. Defaults to 1.

    Yields:
        A policy and its :func:`measure_policy`.
    """
    torch.set_num_threads(threads)
    model, image = build_model(size, device)
    options = {"cache_dtype": cache_dtype, "dtype": dtype, "device": device}
    for policy in policies:
        yield policy, measure_policy(model, image, policy, frames, **options)


def plot_streaming(results: dict[str, dict[str, list[float]]], target: str | Path) -> None:
    """Plot curves of time, cache and resident memory over frames, one per policy."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    titles = (("ms", "CPU ms per frame", 1), ("cache", "cache, MiB", 2**20))
    titles += (("memory", "resident memory, MiB", 2**20),)
    for axis, (key, title, unit) in zip(axes, titles):
        for policy, rows in results.items():
            axis.plot([value / unit for value in rows[key]], label=policy, linewidth=1)
        axis.set_title(title)
        axis.set_xlabel("frame")
    axes[1].set_yscale("log")
    axes[0].legend(fontsize=7)
    with atomic_path(target) as path:
        figure.savefig(path, dpi=110)
    plt.close(figure)
