"""From pictures to trajectory, depth maps and point cloud."""

import gc
import subprocess
import weakref

import cv2
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from mmcity.apis import SourceError, StreamingReconstructor, StreamWriter, open_source
from mmcity.structures import Trajectory
from mmcity.utils import UserError
from tests.devices import DEVICE
from tests.models.streamvggt.tiny import SIZES, tiny_model


def pictures(count=4, height=40, width=60):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


class TestSources:
    def test_folder_is_sorted_and_strided(self, tmp_path):
        for name in ("b", "a", "d", "c"):
            Image.fromarray(pictures(1)[0]).save(tmp_path / f"{name}.png")
        (tmp_path / "notes.txt").write_text("no image")
        assert [f.name for f in open_source(tmp_path)] == ["a", "b", "c", "d"]
        assert [f.name for f in open_source(tmp_path, stride=2)] == ["a", "c"]
        assert [f.name for f in open_source(tmp_path, max_frames=3)] == ["a", "b", "c"]

    @pytest.mark.parametrize("decoder", ["opencv", "pyav"])
    def test_video(self, decoder, tmp_path):
        path = tmp_path / "film.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
        for level in (0, 100, 200):
            writer.write(np.full((48, 64, 3), (level, 0, 0), dtype=np.uint8))  # blue
        writer.release()
        frames = list(open_source(path, decoder=decoder))
        assert [f.name for f in frames] == ["000000", "000001", "000002"]
        assert [round(f.timestamp, 3) for f in frames] == [0, 0.1, 0.2]
        assert abs(int(frames[2].image[0, 0, 2]) - 200) < 10  # blue comes last in RGB

    def test_pyav_knows_when_each_frame_was_taken(self, tmp_path):
        import av

        path = tmp_path / "film.mkv"
        with av.open(str(path), "w") as film:
            stream = film.add_stream("mjpeg", rate=100)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
            for hundredths in (0, 10, 50):
                frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
                frame.pts = hundredths
                film.mux(stream.encode(frame))
            film.mux(stream.encode())
        stamps = [f.timestamp for f in open_source(path, decoder="pyav")]
        np.testing.assert_allclose(stamps, [0, 0.1, 0.5], atol=1e-3)

    def test_frames_come_in_the_order_of_their_numbers(self, tmp_path):
        for number in (1, 2, 10, 11):
            Image.new("RGB", (8, 6)).save(tmp_path / f"frame_{number}.png")
        (tmp_path / "._frame_1.png").write_bytes(b"of another system")
        with pytest.warns(UserWarning, match="frame_2.png before frame_10.png"):
            names = [frame.name for frame in open_source(tmp_path)]
        assert names == ["frame_1", "frame_2", "frame_10", "frame_11"]

    def test_photographs_are_turned_upright_and_keep_their_names_apart(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        stored = np.zeros((6, 8, 3), np.uint8)
        stored[:, :2] = (0, 0, 255)  # left as stored: above when turned
        Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
        Image.new("RGB", (6, 8)).save(tmp_path / "a.jpg")
        frames = {frame.name: frame.image for frame in open_source(tmp_path)}
        assert sorted(frames) == ["a.jpg", "a.png"] and frames["a.png"].shape == (8, 6, 3)
        assert (frames["a.png"][:2] == (0, 0, 255)).all() and not frames["a.png"][2:].any()

    @pytest.mark.parametrize("decoder", ["opencv", "pyav"])
    def test_films_held_upright_are_turned_as_players_do(self, decoder, tmp_path):
        import imageio_ffmpeg

        writer = cv2.VideoWriter(
            str(tmp_path / "a.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48)
        )
        stored = np.zeros((48, 64, 3), np.uint8)
        stored[:24] = 255
        writer.write(stored)
        writer.release()
        words = ["-y", "-loglevel", "error", "-display_rotation", "90", "-i", tmp_path / "a.mp4"]
        words += ["-c", "copy", tmp_path / "turned.mp4"]
        subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *words], check=True)

        image = next(open_source(tmp_path / "turned.mp4", decoder=decoder)).image

        assert image.shape == (64, 48, 3)  # a quarter against the clock: above becomes left
        assert image[:, :20].min() > 200 and image[:, 28:].max() < 50

    def test_transparency_becomes_white(self, tmp_path):
        image = np.zeros((8, 8, 4), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "clear.png")
        assert next(open_source(tmp_path)).image.min() == 255

    def test_problems_name_the_file(self, tmp_path):
        (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
        with pytest.raises(SourceError, match="broken.png"):
            list(open_source(tmp_path))
        (tmp_path / "film.mp4").write_bytes(b"no film")
        for decoder in ("opencv", "pyav"):
            with pytest.raises(SourceError, match="film.mp4"):
                list(open_source(tmp_path / "film.mp4", decoder=decoder))
        with pytest.raises(SourceError, match="decoder"):
            open_source(tmp_path / "film.mp4", decoder="vlc")
        (tmp_path / "empty").mkdir()
        with pytest.raises(SourceError, match="expected images"):
            open_source(tmp_path / "empty")
        with pytest.raises(SourceError, match="missing"):
            open_source(tmp_path / "missing")
        with pytest.raises(SourceError, match="uint8"):
            list(open_source([np.zeros((4, 4, 3))]))


def reconstructor(**kwargs):
    return StreamingReconstructor(tiny_model(), device=DEVICE, image_size=42, **kwargs)


def test_results_are_those_of_the_model():
    run = reconstructor(use_proj=False)
    results = list(run(pictures()))
    images = torch.stack([run.preprocess(picture) for picture in pictures()])[None].to(DEVICE)
    with torch.no_grad():
        full = run.model.run(images)
    assert images.shape[-2:] == (28, 42)
    for index, result in enumerate(results):
        np.testing.assert_allclose(result.depth, full["depth"][0, index, ..., 0], rtol=1e-4)
        np.testing.assert_allclose(result.points, full["world_points"][0, index], atol=1e-5)
        assert result.cam_to_world.shape == (4, 4)


def test_points_land_on_their_pixels_with_the_cameras_of_predict():
    """Both ways out of the model give one K, whose pixel centres lie at half-integers."""
    run = reconstructor(use_proj=True)
    results = list(run(pictures()))
    images = torch.stack([run.preprocess(picture) for picture in pictures()])[None].to(DEVICE)
    with torch.no_grad():
        (sample,) = run.model.predict(images)
    v, u = np.mgrid[:28, :42]
    for result, camera in zip(results, sample.pred_cameras):
        np.testing.assert_allclose(result.K, camera.Ks[0], rtol=1e-5)
        np.testing.assert_array_equal(result.K[:2, 2], [21.5, 14.5])  # of 42 x 28 pixels
        pixels, depth = camera.project(torch.from_numpy(result.points).flatten(0, 1))
        pixels = pixels.view(28, 42, 2)
        np.testing.assert_allclose(depth.view(28, 42), result.depth, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(pixels[..., 0], u + 0.5, atol=1e-2)
        np.testing.assert_allclose(pixels[..., 1], v + 0.5, atol=1e-2)


def test_a_rendered_point_lands_on_its_pixel():
    """The splat of an unprojected point is brightest in the pixel that it came from."""
    from mmcity_ops import rasterization

    result = next(reconstructor()(pictures(1)))
    means = torch.from_numpy(result.points[10, 30])[None]
    scales = torch.full((1, 3), 0.3 * float(result.depth[10, 30]) / float(result.K[0, 0]))
    viewmat = torch.from_numpy(np.linalg.inv(result.cam_to_world)).float()[None]
    shown, _, _ = rasterization(
        means, torch.tensor([[1.0, 0, 0, 0]]), scales, torch.ones(1), torch.ones(1, 3), viewmat,
        torch.from_numpy(result.K)[None], 42, 28,
    )  # fmt: skip
    brightness = shown[0, ..., 0]
    assert divmod(int(brightness.argmax()), 42) == (10, 30)
    # Centred in the pixel: the light is the same on both sides.
    assert float(brightness[10, 29]) == pytest.approx(float(brightness[10, 31]), rel=1e-2)
    assert float(brightness[9, 30]) == pytest.approx(float(brightness[11, 30]), rel=1e-2)


def test_yielded_results_are_released():
    alive = []
    for result in reconstructor(policy="window(2)")(pictures(5)):
        gc.collect()
        assert all(reference() is None for reference in alive)
        alive.append(weakref.ref(result))


def test_writer(tmp_path):
    run = reconstructor()
    with StreamWriter(tmp_path, formats=("ply", "glb"), max_points=500) as writer:
        results = []
        for result in run(pictures()):
            writer.write(result)
            results.append(result)
    path = Trajectory.read_tum(tmp_path / "trajectory.txt")
    np.testing.assert_allclose(path.poses, [r.cam_to_world for r in results], atol=1e-5)
    lenses = np.loadtxt(tmp_path / "intrinsics.txt")
    np.testing.assert_array_equal(lenses[:, 2:], [[21.5, 14.5]] * 4)
    assert "half-integers" in (tmp_path / "intrinsics.txt").read_text()
    np.testing.assert_array_equal(np.load(tmp_path / "depth" / "000002.npy"), results[2].depth)
    assert Image.open(tmp_path / "depth" / "000002.png").size == (42, 28)
    cloud = trimesh.load(tmp_path / "points.ply")
    assert 240 <= len(cloud.vertices) <= 260  # half of the kept 500
    known = {tuple(np.round(p, 4)) for r in results for p in r.points.reshape(-1, 3)}
    assert all(tuple(np.round(p, 4).astype(np.float32)) in known for p in cloud.vertices[:20])
    assert len(trimesh.load(tmp_path / "points.glb").geometry) == 2


def test_config_and_checkpoint(tmp_path):
    model = tiny_model()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "ours.pth")
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "published.pth")
    both = {
        f"{part}.{k}": v for part in ("student", "teacher") for k, v in model.state_dict().items()
    }
    torch.save({"state_dict": {**both, "steps_done": torch.tensor(3)}}, tmp_path / "both.pth")
    config = {"model": {"type": "StreamVGGT", **SIZES}, "stream": {"policy": "window(2)"}}
    expected = list(reconstructor(policy="window(2)")(pictures()))[-1]
    for name in ("ours.pth", "published.pth", "both.pth"):
        run = StreamingReconstructor(config, tmp_path / name, device=DEVICE, image_size=42)
        np.testing.assert_array_equal(list(run(pictures()))[-1].depth, expected.depth)
    state = dict(model.state_dict())
    state.pop("camera_head.embed_pose.weight")
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(UserError, match=r"short.pth.*embed_pose"):
        StreamingReconstructor(config, tmp_path / "short.pth", device=DEVICE)


def test_tracks_and_low_precision():
    run = StreamingReconstructor(tiny_model(track=True), device=DEVICE, image_size=42, dtype="bf16")
    query = np.array([[3.0, 4.0], [20.0, 10.0]])
    results = list(run(pictures(), query_points=query))
    np.testing.assert_allclose(results[0].track, query, atol=1e-4)
    assert results[-1].track.shape == (2, 2)
    assert run.session.cache.layers[0].read()[0].dtype == torch.bfloat16


def test_wrong_arguments_are_named():
    with pytest.raises(UserError, match="dtype"):
        reconstructor(dtype="fp8")
    with pytest.raises(UserError, match="resize"):
        reconstructor(resize="stretch")


def test_callbacks_see_every_frame_before_it_is_yielded():
    seen = []
    run = StreamingReconstructor(tiny_model(), image_size=42, callbacks=[seen.append])
    for number, result in enumerate(run(pictures(3)), start=1):
        assert len(seen) == number and seen[-1] is result


class TestRigs:
    def test_cameras_of_a_moment_share_a_step(self):
        """The results are those of the model on steps of two frames."""
        model = tiny_model()
        run = StreamingReconstructor(model, image_size=42, policy="window(2)", device=DEVICE)
        left, right = pictures(3), pictures(3)[:, ::-1].copy()
        results = list(run.run_rig([left, right]))
        assert [(r.index, r.camera) for r in results] == [(i, c) for i in range(3) for c in (0, 1)]
        session = model.stream(policy="window(2)")
        for index in range(3):
            pair = torch.stack([run.preprocess(left[index]), run.preprocess(right[index])])
            out = session.step(pair[None].to(DEVICE))
            for camera in (0, 1):
                found = results[2 * index + camera]
                np.testing.assert_allclose(found.depth, out["depth"][0, camera, ..., 0], rtol=1e-5)
        assert session.cache.num_steps == 3

    def test_written_apart(self, tmp_path):
        run = StreamingReconstructor(tiny_model(), image_size=42)
        with StreamWriter(tmp_path, formats=("ply", "glb")) as writer:
            for result in run.run_rig([pictures(2), pictures(2)]):
                writer.write(result)
        for suffix in ("", "_1"):
            assert len(Trajectory.read_tum(tmp_path / f"trajectory{suffix}.txt")) == 2
            assert len(list((tmp_path / f"depth{suffix}").glob("*.npy"))) == 2
        assert len(trimesh.load(tmp_path / "points.glb").geometry) > 1

    def test_cameras_must_keep_step_and_size(self):
        run = StreamingReconstructor(tiny_model(), image_size=42)
        with pytest.raises(SourceError, match=r"cameras \[1\] end after 2 frames"):
            list(run.run_rig([pictures(3), pictures(2)]))
        with pytest.raises(SourceError, match="expected one size"):
            list(run.run_rig([pictures(1), pictures(1, height=60)]))
