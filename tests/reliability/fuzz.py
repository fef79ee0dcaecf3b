"""Mutated files for every reader: only documented errors, bounded memory and time.

    python -m tests.reliability.fuzz WORK NUMBER READER...
    python -m tests.reliability.fuzz store      # new readers into the corpus

A documented error is one of the toolbox, whose message names the file. Prints a line per reader,
and the first cases of what was wrong; status 1 if there were any. What is mutated is stored, so
that case i of a reader is always the same; ``KNOWN`` lists those that were wrong once.
"""

import base64
import gzip
import importlib.util
import io
import json
import os
import pickle
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import traceback
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import trimesh
import zstandard
from PIL import Image

from mmcity.apis.localization.localizer_file import read_localizer_file
from mmcity.datasets import NerfstudioDataset
from mmcity.datasets.alignment import read_alignment
from mmcity.datasets.io import info_pickle, occupancy_files, rollout_files
from mmcity.datasets.io.colmap_model import read_colmap_model, write_colmap_model
from mmcity.datasets.io.nvm import read_nvm
from mmcity.datasets.io.point_ply import read_point_ply, write_point_ply
from mmcity.datasets.sequences import frames
from mmcity.engine.checkpointing import encode_checkpoint, load_from_local
from mmcity.models.gausstr.vocabulary_files import load_prototypes
from mmcity.structures import (
    Gaussians,
    Trajectory,
    build_lod_tree,
    read_gaussians,
    write_gaussians,
)
from mmcity.structures.io.glb import read_glb_container
from mmcity.structures.io.mesh_files import write_mesh
from mmcity.utils.cli import UserError
from mmcity.utils.picture_files import ImageReadError, read_image
from mmcity.visualization.occupancy_results import read_occupancy_result
from mmcity.visualization.streamed_sog import write_streamed_sog
from mmcity.visualization.tiles3d import read_tileset, write_tileset
from mmcity.visualization.viewer import open_layers
from mmcity.workflow.manifest import Manifest
from tests.conftest import REPO
from tests.datasets.scenes import make_model, write_transforms
from tests.structures.io.test_ksplat import ksplat_bytes
from tests.structures.test_gaussian_lod import street

from .results import keep_results

CORPUS = REPO / "tests" / "data" / "fuzz.zip"
#: Cases by reader that were wrong once.
KNOWN: dict[str, tuple[int, ...]] = {}
#: Seconds and bytes of address space beyond what the process has that one file may take.
SECONDS, MEMORY = 5.0, 1 << 30
#: Bytes of the header of version 4.
_SPZ_HEADER = 32


@dataclass(frozen=True)
class Reader:
    """A reader and what it reads.

    Attributes:
        name: Of the file that is mutated, relative to the folder.
        files: Content of it and of those beside it.
        read: Called with the folder.
        pack: Of the mutated bytes, such as compression. None: as they are.
    """

    name: str
    files: dict[str, bytes]
    read: Callable[[Path], object]
    pack: Callable[[bytes], bytes] | None = None


def _saved(save: Callable, *args, **kwargs) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *args, **kwargs)
    return buffer.getvalue()


def _files(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _spz_of_tables(raw: bytes) -> bytes:
    """A file of version 4 with whole streams and a header that tells of no more than them."""
    head, body = raw[:_SPZ_HEADER].ljust(_SPZ_HEADER, b"\0"), raw[_SPZ_HEADER:]
    count = max(len(body) // 20, 1)
    sizes = [width * count for width in (9, 1, 3, 3, 4)]
    parts = [
        body[sum(sizes[:i]) : sum(sizes[: i + 1])].ljust(n, b"\0") for i, n in enumerate(sizes)
    ]
    streams = [zstandard.compress(part) for part in parts]
    contents = [struct.pack("<QQ", len(s), len(p)) for s, p in zip(streams, parts, strict=True)]
    said = struct.pack("<IIIBBBBI12x", 0x5053474E, 4, count, 0, head[13], 0, 5, _SPZ_HEADER)
    return said + b"".join([*contents, *streams])


def make_readers(work: Path) -> dict[str, Reader]:
    """All readers by their names."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    readers: dict[str, Reader] = {}

    def one(name: str, file: str, content: bytes, read: Callable, pack=None) -> None:
        readers[name] = Reader(file, {file: content}, lambda d: read(d / file), pack)

    scene: Gaussians = street(20)
    scene.shN = torch.rand(20, 3, 3) - 0.5
    for suffix in ("ply", "compressed.ply", "splat", "spz", "sog", "glb"):
        write_gaussians(scene, work / f"a.{suffix}")
        content = (work / f"a.{suffix}").read_bytes()
        one(f"gaussians_{suffix}", f"a.{suffix}", content, read_gaussians)
    for version in (2, 3):
        write_gaussians(scene, work / "a.spz", version=version)
        packed = (work / "a.spz").read_bytes()
        one(f"gaussians_spz_{version}", "a.spz", packed, read_gaussians)
    for level in (0, 2):
        one(f"ksplat_{level}", "a.ksplat", ksplat_bytes(level), read_gaussians)
    write_gaussians(scene, work / "sog" / "meta.json")
    for name, file in (
        ("meta", "meta.json"),
        ("texture", "means_l.webp"),
        ("sets", "shN_centroids.webp"),
    ):
        readers[f"sog_{name}"] = Reader(file, _files(work / "sog"), read_gaussians)
    write_streamed_sog(build_lod_tree(scene, 8), work / "streamed", levels=2)
    readers["streamed_sog"] = Reader(
        "lod-meta.json", _files(work / "streamed"), lambda d: read_gaussians(d, lod=1)
    )
    if importlib.util.find_spec("pxr") is not None:
        for suffix in ("usda", "usdc", "usdz"):
            write_gaussians(scene, work / f"a.{suffix}")
            packed_usd = (work / f"a.{suffix}").read_bytes()
            one(f"gaussians_{suffix}", f"a.{suffix}", packed_usd, read_gaussians)
    inner = gzip.decompress(packed)
    one("gaussians_spz_inner", "a.spz", inner, read_gaussians, lambda raw: gzip.compress(raw, 1))
    # Tables of version 4, whose streams would mostly not unpack when they are mutated.
    tables = inner[: _SPZ_HEADER // 2] + bytes(_SPZ_HEADER // 2) + inner[_SPZ_HEADER // 2 :]
    one("gaussians_spz_tables", "a.spz", tables, read_gaussians, _spz_of_tables)
    one("layers_glb", "a.glb", (work / "a.glb").read_bytes(), open_layers)
    write_gaussians(scene, work / "packed.glb", compress="spz")
    one("gaussians_glb_spz", "a.glb", (work / "packed.glb").read_bytes(), read_gaussians)
    document, binary = read_glb_container(work / "a.glb")
    document["buffers"][0]["uri"] = "data:;base64," + base64.b64encode(binary).decode()
    one("gaussians_gltf", "a.gltf", json.dumps(document).encode(), read_gaussians)
    write_mesh(trimesh.creation.box(), work / "mesh.glb")
    one("mesh_glb", "a.glb", (work / "mesh.glb").read_bytes(), open_layers)
    write_tileset(build_lod_tree(scene, 8), work / "tiles")
    tiles = _files(work / "tiles")
    readers["tileset"] = Reader("tileset.json", tiles, read_tileset)
    write_point_ply(work / "points.ply", rng.random((20, 3)), np.full((20, 3), 9, np.uint8))
    one("point_ply", "points.ply", (work / "points.ply").read_bytes(), read_point_ply)
    model = make_model(count=3, points=5)
    for suffix in ("bin", "txt"):
        write_colmap_model(model, work / suffix, f".{suffix}")
        for part in ("cameras", "images", "points3D"):
            files = _files(work / suffix)
            readers[f"colmap_{part}_{suffix}"] = Reader(
                f"{part}.{suffix}", files, read_colmap_model
            )
    write_transforms(work / "nerfstudio", model)
    readers["nerfstudio"] = Reader(
        "transforms.json",
        _files(work / "nerfstudio"),
        lambda d: NerfstudioDataset(d, missing_images="skip", split="all", require_points=False),
    )
    info = {"metainfo": {"classes": ["x"]}, "data_list": [{"K": np.eye(3), "t": np.float64(3)}]}
    one("info_pickle", "a.pkl", pickle.dumps(info, 4), info_pickle.load_info_pickle)
    plain = _saved(np.savez, meta=np.array({"a": 1, "b": np.arange(3)}, dtype=object))
    one("plain_npz", "a.npz", plain, lambda path: info_pickle.load_plain_npz(path, "meta"))
    masks = dict(mask_lidar=np.ones((4, 4, 2), bool), mask_camera=np.ones((4, 4, 2), bool))
    labels = np.zeros((4, 4, 2), np.uint8)
    content = _saved(np.savez, semantics=labels, **masks)
    one("occ3d_nuscenes", "a.npz", content, occupancy_files.read_occ3d_nuscenes_frame)
    one("layers_npz", "labels.npz", content, open_layers)
    states = dict(origin_voxel_state=labels, final_voxel_state=labels, infov=labels)
    content = _saved(np.savez_compressed, voxel_label=labels, **states)
    one("occ3d_waymo", "a.npz", content, occupancy_files.read_occ3d_waymo_frame)
    params = {"grid_size": [4, 4, 2], "min_bound": [0, 0, 0], "max_bound": [1, 1, 1]}
    content = json.dumps({**params, "num_channels": 10}).encode()
    read = occupancy_files.read_carlasc_params
    readers["carlasc_params"] = Reader("params.json", {"params.json": content}, read)
    poses = b"1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 1 0 1 0 0 0 0 1 0\n"
    one("planar_poses", "poses.txt", poses, occupancy_files.read_planar_poses)
    path = Trajectory(torch.eye(4, dtype=torch.float64)[None].repeat(3, 1, 1), [0.0, 1.0, 2.0])
    for kind in ("tum", "kitti"):
        getattr(path, f"write_{kind}")(work / kind)
        one(kind, "poses.txt", (work / kind).read_bytes(), getattr(Trajectory, f"read_{kind}"))
    state = {"state_dict": {"a": torch.randn(4, 4)}, "meta": {"iter": 3, "n": np.arange(4)}}
    one("checkpoint", "a.pth", _saved(_torch_save, encode_checkpoint(state)), load_from_local)
    old = _saved(_torch_save, {"state_dict": {"a": torch.randn(4, 4)}}, new=False)
    one("checkpoint_old", "a.pth", old, load_from_local)
    one("prototypes", "a.pth", _saved(_torch_save, torch.randn(4, 3)), load_prototypes)
    keys = dict(scene=".", map=".", map_config=None, config=None, checkpoint=None, alignment=None)
    content = json.dumps(
        {**keys, "long_side": 480, "unit_scale": 1.0, "not_metric": False}
    ).encode()
    one("localizer", "localizer.json", content, read_localizer_file)
    stages = {"a": {"status": "done", "key": "k", "artefacts": {"x": ["a/x", 3]}, "findings": []}}
    content = json.dumps({"stages": stages}, indent=1).encode()
    readers["manifest"] = Reader("manifest.json", {"manifest.json": content}, Manifest)
    rollout_files.write_rollout(work / "r.npz", np.zeros((1, 2, 8, 8), np.float16), labels)
    one("rollout", "r.npz", (work / "r.npz").read_bytes(), rollout_files.read_rollout)
    index = {"txyz": [2, 2, 2, 2], "channels": 2, "sequence_length": 2, "windows": []}
    content, read = json.dumps(index).encode(), rollout_files.read_rollout_index
    readers["rollout_index"] = Reader("index.json", {"index.json": content}, read)
    picture = Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8))
    for kind in ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP"):
        content = _saved(picture.save, kind)
        one(f"picture_{kind.lower()}", f"a.{kind.lower()}", content, read_image)
    content = _saved(np.savez, intrinsics=np.eye(3), pose=np.eye(4), cam2world=np.eye(4))
    one("camera_npz", "a.npz", content, frames.read_camera_npz)
    tag = struct.pack("<f", 202021.25)
    content = tag + struct.pack("<ii", 5, 4) + np.ones(20, "<f4").tobytes()
    one("sintel_depth", "a.dpt", content, frames.read_sintel_depth)
    content = tag + np.eye(3).tobytes() + np.eye(4)[:3].tobytes()
    one("sintel_camera", "a.cam", content, frames.read_sintel_camera)
    content = dict(scale=1.0, rotation=np.eye(3).tolist(), translation=[0, 0, 0])
    one("alignment", "a.json", json.dumps(content).encode(), read_alignment)
    camera = b"%s.jpg 500 1 0 0 0 %d 0 0 0 0\n"
    content = b"NVM_V3\n\n2\n" + camera % (b"a", 0) + camera % (b"b", 1) + b"\n0\n"
    one("nvm", "a.nvm", content, read_nvm)
    content = _saved(np.savez, occ_pred=labels, occ_gt=labels)
    one("occupancy_result", "a.npz", content, read_occupancy_result)
    content = {"queries": [{"name": "a", "position": [0, 0, 0], "pose": [1, 0, 0, 0, 0, 0, 0]}]}
    one("layers_results", "results.json", json.dumps(content).encode(), open_layers)
    return readers


def _torch_save(file, content, new: bool = True) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=new)


_NUMBERS = (0, 1, 127, 128, 255, 2**31 - 1, 2**31, 2**32 - 1, 10**9, 2**40, 2**63 - 1)
_WORDS = (b"NaN", b"Infinity", b"-1", b"1e400", b"99999999999999", b"null", b"[]", b"{}", b'""')
_WORDS += (b'"../../../etc/passwd"', b"true", b"-0", b"\x00", b"\xff\xfe", b"1e-320", b"[[[[")


def mutate(content: bytes, rng: random.Random) -> bytes:
    """A few bits, bytes, numbers or words changed, cut, repeated or put in."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not data:
            break
        at, kind = rng.randrange(len(data)), rng.randrange(9)
        if rng.random() < 0.3:  # heads say most
            at = rng.randrange(min(len(data), 128))
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice((0, 1, 127, 128, 255))
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + rng.randrange(1, 64)]
        elif kind == 4:
            data[at:at] = rng.randbytes(rng.randrange(1, 16))
        elif kind == 5:
            width = rng.choice((2, 4, 8))
            number = rng.choice(_NUMBERS) % (1 << 8 * width)
            data[at : at + width] = number.to_bytes(width, "little")
        elif kind == 6:
            start = rng.randrange(len(data))
            data[at:at] = data[start : start + rng.randrange(1, 64)]
        else:
            pattern = rb"[-+0-9.eE]+|\"[^\"]{0,80}\"|true|false|null"
            found = list(re.finditer(pattern, bytes(data[at : at + 400])))
            if found:
                word = rng.choice(found)
                data[at + word.start() : at + word.end()] = rng.choice(_WORDS)
    return bytes(data)


class _Slow(BaseException):
    pass


def _stop(*_) -> None:
    raise _Slow


def undocumented(error: BaseException, folder: Path) -> str | None:
    """Kind and place of an error that no reader should raise; None for those that say so."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    is_own = type(error).__module__.startswith("mmcity") or (
        isinstance(error, (ValueError, TypeError, KeyError, NotImplementedError))
        and "/mmcity/" in last.filename
        and (last.line or "").startswith("raise")
    )
    is_own = is_own or isinstance(error, (UserError, FileNotFoundError, ImageReadError))
    text = str(error)
    if is_own and (folder.name in text or any(name in text for name in os.listdir(folder))):
        return None
    own = [f for f in traceback.extract_tb(error.__traceback__) if "/mmcity/" in f.filename]
    place = own[-1] if own else last
    kind = "no name of a file: " if is_own else ""
    return (
        f"{kind}{type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {text[:90]}"
    )


def try_cases(reader: Reader, name: str, folder: Path, cases: Sequence[int], out) -> None:
    """Read cases; number and result of each go to ``out``."""
    size = int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _stop)
    for case in cases:
        content = mutate(reader.files[reader.name], random.Random(f"{name} {case}"))
        content = reader.pack(content) if reader.pack else content
        (folder / reader.name).write_bytes(content)
        out.write(struct.pack("<iH", case, 0))
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            reader.read(folder)
            result = "read"
        except _Slow:
            result = f"more than {SECONDS} s"
        except BaseException as error:
            result = undocumented(error, folder) or "refused"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        text = result.encode()[:2000]
        out.write(struct.pack("<iH", case, len(text)) + text)


def fuzz(reader: Reader, name: str, folder: Path, cases: Sequence[int]) -> dict[str, list[int]]:
    """Cases by their result."""
    folder.mkdir(parents=True)
    for file, content in reader.files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    whole = reader.files[reader.name]
    (folder / reader.name).write_bytes(reader.pack(whole) if reader.pack else whole)
    reader.read(folder)  # a reader that takes nothing would pass
    results: dict[str, list[int]] = {}
    left = list(cases)
    while left:
        source, target = os.pipe()
        sys.stdout.flush()
        child = os.fork()
        if not child:
            os.close(source)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            with open(target, "wb", buffering=0) as out:
                try_cases(reader, name, folder, left, out)
            os._exit(0)
        os.close(target)
        with open(source, "rb") as told:
            while len(head := told.read(6)) == 6:
                case, length = struct.unpack("<iH", head)
                if length:
                    results.setdefault(told.read(length).decode(errors="replace"), []).append(case)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            results.setdefault(f"ended the process with {status}", []).append(case)
        left = left[left.index(case) + 1 :]
    return results


def read_corpus(readers: dict[str, Reader]) -> dict[str, Reader]:
    """Readers with the files of the corpus in the place of their own."""
    stored: dict[str, dict[str, bytes]] = {}
    with zipfile.ZipFile(CORPUS) as archive:
        for member in archive.namelist():
            name, file = member.split("/", 1)
            stored.setdefault(name, {})[file] = archive.read(member)
    return {
        name: replace(reader, files=stored.get(name, reader.files))
        for name, reader in readers.items()
    }


def store_corpus() -> None:
    """Add the files of readers that the corpus lacks; what is there stays."""
    with tempfile.TemporaryDirectory() as work:
        readers = make_readers(Path(work))
    with zipfile.ZipFile(CORPUS, "a", zipfile.ZIP_DEFLATED) as archive:
        names = {member.split("/")[0] for member in archive.namelist()}
        for name in sorted(set(readers) - names):
            for file, content in sorted(readers[name].files.items()):
                archive.writestr(zipfile.ZipInfo(f"{name}/{file}"), content)


def main(work: str, number: str = "", *names: str) -> None:
    if work == "store":
        return store_corpus()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    root = Path(work).resolve()
    (root / "seeds").mkdir(parents=True)
    readers, failed = read_corpus(make_readers(root / "seeds")), False
    for name in names or readers:
        cases = [*KNOWN.get(name, ()), *range(int(number))]
        results = fuzz(readers[name], name, root / name, cases)
        good = {kind: len(results.pop(kind, [])) for kind in ("read", "refused")}
        keep_results("fuzz", name, {**good, "wrong": sum(map(len, results.values()))})
        wrong = [f"{len(cases)} x {kind} (case {cases[0]})" for kind, cases in results.items()]
        print(f"{name}: {good}, {sum(map(len, results.values()))} wrong", *wrong, sep="\n    ")
        sys.stdout.flush()
        failed |= bool(results)
    sys.exit(int(failed))


if __name__ == "__main__":
    main(*sys.argv[1:])
