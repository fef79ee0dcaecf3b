"""Time and memory per frame of StreamVGGT for every cache policy.

    python tools/benchmark.py streaming --frames 60 --policies full "window(8)" naive
    python tools/benchmark.py streaming --frames 1000 --policies "window(8)" --plot growth.png

``naive`` is the plain way to write such a network: keys and values before norm and rotation
are concatenated to the history, the whole history is normalised and rotated again in every
frame, attention takes a dense mask, and the outputs of all layers are kept.
"""

import argparse
import json
import time
from pathlib import Path

SIZES = {
    # name: embed_dim, depth, heads, image (H, W), patch transformer's depth (0: convolution)
    "tiny": (64, 4, 4, (56, 84), 0),
    "small": (192, 6, 6, (112, 154), 0),
    "medium": (192, 6, 6, (196, 280), 0),
    "large2": (1024, 2, 16, (154, 518), 1),
    "1b": (1024, 24, 16, (392, 518), 24),
}
DTYPES = ("fp32", "bf16", "fp16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the part."""
    parser.add_argument("--size", default="tiny", choices=list(SIZES))
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--policies", nargs="+", default=["full", "window(8)", "naive"])
    parser.add_argument("--cache-dtype", choices=["fp32", "bf16", "fp16", "fp8", "int8"])
    parser.add_argument("--dtype", default="fp32", choices=DTYPES, help="of the computation")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", help="JSON file for all numbers")
    parser.add_argument("--plot", help="picture of time and memory over frames")


def build_model(size: str, device: str = "cpu"):
    """A model with random weights and heads in proportion."""
    import torch

    from mmcity.models.streamvggt import StreamVGGT

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

    def attention(self, key, attn, x, rope):
        """Attention of ``x`` to all tokens so far, everything recomputed."""
        import torch
        import torch.nn.functional as F

        from mmcity.models.layers import apply_rope

        qkv = attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if key in self.history:
            old_k, old_v = self.history[key]
            k, v = torch.cat([old_k, k], dim=2), torch.cat([old_v, v], dim=2)
        self.history[key] = (k, v)
        q, k = attn.q_norm(q), attn.k_norm(k)
        if rope is not None:
            q, k = apply_rope(q, *rope), apply_rope(k, *rope)
        mask = torch.zeros(q.shape[2], k.shape[2], dtype=q.dtype, device=q.device)
        out = F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), attn_mask=mask)
        return attn.proj(out.to(x.dtype).transpose(1, 2).flatten(2))

    def step(self, images) -> dict:
        """One frame ``(B, 3, H, W)``."""
        import torch
        import torch.nn.functional as F

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
                key = ("camera", iteration, layer)
                if key in self.history:
                    old_k, old_v = self.history[key]
                    k, v = torch.cat([old_k, k], dim=2), torch.cat([old_v, v], dim=2)
                self.history[key] = (k, v)
                return F.scaled_dot_product_attention(q, k, v)

            return attend

        poses = model.camera_head.refine(kept[-1][:, :, 0], attend_of)
        return {**outputs, "pose_enc": poses[-1]}


def measure(model, image, policy, frames: int, args: argparse.Namespace) -> dict:
    """Milliseconds, cache bytes and resident bytes of every frame."""
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[args.dtype]
    is_cuda = args.device.startswith("cuda")
    if policy == "naive":
        session = NaiveStream(model)
        cache = session
    else:
        session = model.stream(policy=policy, cache_dtype=args.cache_dtype)
        cache = session.cache
    generator = torch.Generator().manual_seed(0)
    rows = {"ms": [], "cache": [], "memory": []}
    # CPU time where the CPU computes: it does not count what other programs take.
    clock = time.perf_counter if is_cuda else time.process_time
    for _ in range(frames):
        frame = torch.rand(1, 3, *image, generator=generator).to(args.device)
        start = clock()
        with (
            torch.no_grad(),
            torch.autocast(
                torch.device(args.device).type, dtype=dtype, enabled=args.dtype != "fp32"
            ),
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
    import resource

    status = Path("/proc/self/statm")
    if status.is_file():
        return int(status.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def around(values: list, frame: int, width: int = 5) -> float:
    """Least value of the last ``width`` frames up to ``frame`` (the machine may be shared)."""
    return min(values[max(0, frame - width) : frame])


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    import torch

    torch.set_num_threads(args.threads)
    model, image = build_model(args.size, args.device)
    marks = sorted({1, min(60, args.frames), min(300, args.frames), args.frames})
    results = {}
    columns = " ".join(f"{f'ms @{m}':>10} {f'MiB @{m}':>10}" for m in marks)
    print(f"size {args.size}, images {image[0]} x {image[1]}, {args.dtype}, {args.device}")
    print(f"{'policy':24} {columns}")
    for policy in args.policies:
        rows = measure(model, image, policy, args.frames, args)
        results[policy] = rows
        cells = " ".join(
            f"{around(rows['ms'], m):10.1f} {rows['cache'][m - 1] / 2**20:10.2f}" for m in marks
        )
        print(f"{policy:24} {cells}", flush=True)
    if "naive" in results:
        base = around(results["naive"]["ms"], args.frames)
        for policy in args.policies:
            ratio = base / around(results[policy]["ms"], args.frames)
            print(f"{policy}: {ratio:.2f} times as fast as naive at frame {args.frames}")
    if args.out:
        from mmcity.utils import atomic_path

        with atomic_path(args.out) as path:
            path.write_text(json.dumps(results))
    if args.plot:
        plot(results, args.plot)


def plot(results: dict, target: str) -> None:
    """Curves of time, cache and resident memory over frames."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from mmcity.utils import atomic_path

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
