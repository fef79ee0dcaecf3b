"""A server that shows scenes in a browser."""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import trimesh
from scipy.spatial import KDTree
from torch import Tensor

from mmcity.structures import (
    Cameras,
    GaussianLodTree,
    Gaussians,
    SceneFrame,
    Trajectory,
    VoxelGrid,
    build_lod_tree,
    robust_bounds,
)
from mmcity.structures.io.view_notes import ViewNotes
from mmcity.structures.upright import guess_up
from mmcity.utils.dependencies import import_library

from .camera_layer import camera_handles
from .files import Layer, open_layers
from .lod_stream import LodStream, splat_arrays
from .occupancy_clip import OccupancyClip
from .origins import only_own_origins
from .placing import frame_to_show, placed
from .shapes import first_look, free_name, localization_cameras

_UPDATE_SECONDS = 0.15
_PLAY_SECONDS = 0.5
_TRAJECTORY_COLOR = (230, 90, 20)
#: Cosine from which on a guess of up stands for the axis beside it.
_NEAR_AXIS = 0.97


class Viewer:
    """Shows layers in every browser that opens its address.

    Example::

        viewer = Viewer()                     # http://127.0.0.1:8080
        viewer.show("outputs/demo/3dgs_colmap_cpu/scene.ply")
        viewer.add_cameras("cameras", dataset.cameras)
        viewer.wait()

    Args:
        host: Address to listen at; anyone who reaches it may look. Defaults to this machine
            only.
        port: The next free one is taken if it is in use. Defaults to 8080.
        up: Axis of the world that points up: ``+z``, ``-y`` (COLMAP) and so on; ``auto``
            takes it from the notes beside a scene, or guesses it from the first cameras or path,
            and is ``+z`` without these and on the earth. Defaults to ``auto``.
        budget: Most Gaussians that a browser may hold. Defaults to 400,000.
        title: Of the page. Defaults to ``mmcity``.
        origins: Other sites whose pages may connect, such as ``https://twin.example.org`` of a
            proxy. Defaults to none.

    Raises:
        DependencyError: If viser is not installed.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8080,
        up: str = "auto",
        budget: int = 400_000,
        title: str = "mmcity",
        origins: Sequence[str] = (),
    ) -> None:
        viser = import_library("viser", "viewer", "pip install -r requirements/viewer.txt")
        with only_own_origins(origins):
            self.server = viser.ViserServer(host=host, port=port, label=title, verbose=False)
        self.server.gui.main_panel.dock_right()
        self._guesses_up = up == "auto"
        axis = "+z" if self._guesses_up else up
        self._set_up(np.array([{"+": 1.0, "-": -1.0}[axis[0]] * (a == axis[1]) for a in "xyz"]))
        self._streams: dict[str, LodStream] = {}
        self._handles: dict[str, list[Any]] = {}
        self._switches: dict[str, Any] = {}
        self._clips: dict[str, OccupancyClip] = {}
        self._bounds: dict[str, np.ndarray] = {}
        self._camera_bounds: dict[str, np.ndarray] = {}
        self._path: list[np.ndarray] = []
        #: Where what is shown lies, which the first layer decides.
        self.frame: SceneFrame | None = None
        self._seen_from: np.ndarray | None = None
        self._looks: tuple[np.ndarray, np.ndarray] | None = None
        self._stale: set[int] = set()
        self._closed = threading.Event()
        self._lock = threading.RLock()
        self._build_panel(budget)
        self.server.on_client_connect(self._welcome)
        self.server.on_client_disconnect(self._farewell)
        self._worker = threading.Thread(target=self._stream_cells, daemon=True)
        self._worker.start()

    # ------------------------------------------------------------ the panel

    def _build_panel(self, budget: int) -> None:
        gui = self.server.gui
        self._status = gui.add_markdown("")
        self._world = gui.add_markdown("", visible=False)
        self._layers = gui.add_folder("Layers")
        with gui.add_folder("Level of detail", expand_by_default=False):
            self._budget = gui.add_number(
                "Gaussians", budget, min=1000, step=1000, hint="that this browser may hold"
            )
            self._max_error = gui.add_slider(
                "Error (px)", 0.5, 20, 0.5, 2.0, hint="coarser cells are replaced"
            )
        self._time_folder = gui.add_folder("Time", visible=False)
        with self._time_folder:
            self._frame = gui.add_slider("Frame", 0, 1, 1, 0)
            self._play = gui.add_checkbox("Play", False)
        self._budget.on_update(lambda _: self._mark_stale())
        self._max_error.on_update(lambda _: self._mark_stale())
        self._frame.on_update(lambda _: self._show_frames())

    def set_status(self, text: str) -> None:
        """Markdown at the top of the panel."""
        self._status.content = text

    def set_frame(self, frame: SceneFrame) -> None:
        """Say where what is shown lies; the panel tells its origin in the world."""
        self.frame = frame
        if frame.is_identity:
            return
        x, y, z = frame.scene_to_world(np.zeros(3))
        name = frame.crs[:60] or "world"
        self._world.content = f"0, 0, 0 is {x:.3f}, {y:.3f}, {z:.3f} ({name})"
        self._world.visible = True

    def _set_up(self, up: np.ndarray) -> None:
        self._up = up
        self.server.scene.set_up_direction((float(up[0]), float(up[1]), float(up[2])))

    def _guess_up(self, cam_to_world: Tensor) -> None:
        """Take up from the first poses (C, 4, 4) that are shown, if nobody has said it."""
        if not self._guesses_up or (self.frame is not None and self.frame.crs):
            return
        self._guesses_up = False
        self._snap_up(guess_up(cam_to_world).numpy())

    def _take_notes(self, name: str, notes: ViewNotes) -> None:
        if self._guesses_up and not (self.frame is not None and self.frame.crs):
            self._guesses_up = False
            self._snap_up(np.array(notes.up))
        if notes.left_out:
            lacks = f"{name} is shown without {', '.join(notes.left_out)}: renders differ"
            self.server.gui.add_markdown(lacks)

    def _snap_up(self, up: np.ndarray) -> None:
        largest = np.abs(up).argmax()
        axis = np.sign(up) * (np.arange(3) == largest)
        self._set_up(axis if axis @ up > _NEAR_AXIS else up)

    def _add_switch(self, name: str) -> None:
        if name in self._switches:
            return
        with self._layers:
            switch = self.server.gui.add_checkbox(name, True)
        self._switches[name] = switch

        @switch.on_update
        def _(_) -> None:
            for handle in self._handles.get(name, []):
                handle.visible = switch.value
            if name in self._streams:
                self._streams[name].visible = switch.value
                self._mark_stale()

    def _put(
        self,
        name: str,
        handles: list[Any],
        points: np.ndarray | Tensor | None = None,
        weights: Tensor | None = None,
    ) -> None:
        """Replace what a layer consists of; points, by weight, tell where it lies."""
        with self._lock:
            kept = {handle.name for handle in handles}  # a node replaces one of its name
            for handle in self._handles.get(name, []):
                if handle.name not in kept:
                    handle.remove()
            self._handles[name] = handles
            if points is not None and len(points):
                self._bounds[name] = robust_bounds(points, weights).numpy()
            self._add_switch(name)
            for handle in handles:
                handle.visible = self._switches[name].value
            self._frame_scene()

    # ------------------------------------------------------------ layers

    def show(self, path: str | os.PathLike) -> list[str]:
        """Add what lies at a path; see :func:`open_layers`. Returns the names of the layers.

        A name that is taken gets a number.
        """
        names = []
        for layer in open_layers(path):
            name = free_name(layer.name, self._switches)
            self.add_layer(replace(layer, name=name))
            names.append(name)
        return names

    def add_layer(self, layer: Layer) -> None:
        """Add one layer of :func:`open_layers`.

        All are shown about the origin of the first, whose world coordinates the panel tells.

        Raises:
            ValueError: If the layer lies in another reference system than the first.
        """
        if self.frame is None:
            self.set_frame(frame_to_show(layer))
        if layer.notes is not None:
            self._take_notes(layer.name, layer.notes)
        layer = placed(layer, self.frame)
        if layer.kind == "points":
            self.add_points(layer.name, *layer.data)
        elif layer.kind == "cameras":
            self.add_cameras(layer.name, *layer.data)
        elif layer.kind == "occupancy":
            self.add_occupancy(layer.name, *layer.data)
        else:
            {
                "gaussians": self.add_gaussians,
                "mesh": self.add_mesh,
                "trajectory": self.add_trajectory,
                "localization": self.add_localization,
            }[layer.kind](layer.name, layer.data)

    def add_gaussians(self, name: str, gaussians: Gaussians | GaussianLodTree) -> None:
        """Gaussians, streamed by level of detail; a layer of that name is replaced."""
        is_tree = isinstance(gaussians, GaussianLodTree)
        tree = gaussians if is_tree else build_lod_tree(gaussians)
        self._remove_stream(name)
        self._streams[name] = LodStream(
            name, tree, lambda: int(self._budget.value), lambda: float(self._max_error.value)
        )
        shown = tree.cells[0].gaussians if is_tree else gaussians
        self._put(name, [], shown.means, shown.opacities)
        self._streams[name].visible = self._switches[name].value
        self._mark_stale()

    def update_gaussians(self, name: str, gaussians: Gaussians) -> None:
        """Gaussians that change often, without levels: the most visible ones of the budget."""
        budget = int(self._budget.value)
        g = gaussians.detach()
        if len(g) > budget:
            weight = g.opacities * g.scales.sort(dim=-1).values[:, 1:].prod(-1)
            g = g[weight.topk(budget).indices]
        arrays = splat_arrays(g)
        self._remove_stream(name)
        with self._lock:
            handles = self._handles.get(name, [])
            if handles and hasattr(handles[0], "set_gaussians"):
                handles[0].set_gaussians(**arrays)
                return
        handle = self.server.scene.add_gaussian_splats(f"/{name}", **arrays)
        self._put(name, [handle], g.means, g.opacities)

    def add_mesh(self, name: str, mesh: trimesh.Trimesh) -> None:
        """A mesh with its colours or texture."""
        handle = self.server.scene.add_mesh_trimesh(f"/{name}", mesh)
        self._put(name, [handle], np.asarray(mesh.vertices))

    def add_points(self, name: str, xyz: np.ndarray, rgb: np.ndarray) -> None:
        """A point cloud: ``(N, 3)`` and colours ``(N, 3)`` uint8."""
        bounds = robust_bounds(xyz).numpy()
        size = float(np.linalg.norm(bounds[1] - bounds[0])) / 600
        handle = self.server.scene.add_point_cloud(
            f"/{name}", np.asarray(xyz, np.float32), rgb, point_size=size, precision="float32"
        )
        self._put(name, [handle], xyz)

    def add_cameras(
        self, name: str, cameras: Cameras, pictures: Sequence[Any] | None = None, color=None
    ) -> None:
        """Pyramids of cameras; a click on one that shows its picture moves the view there.

        Args:
            name: Of the layer.
            cameras: C cameras.
            pictures: Per camera a path or an array ``(H, W, 3)`` uint8; at most 150 of them
                are drawn.
            color: RGB, 0 to 255, one or per camera. Defaults to blue.
        """
        handles = camera_handles(
            self.server.scene, name, cameras, pictures, color, self._pyramid_length(cameras)
        )
        centers = cameras.centers.cpu().double().numpy()
        self._guess_up(cameras.cam_to_world)
        if self._seen_from is None:
            self._seen_from = centers.mean(0)
        self._put(name, handles)
        self._camera_bounds[name] = robust_bounds(centers).numpy()
        self._frame_scene()

    def _pyramid_length(self, cameras: Cameras) -> float:
        """Small beside what the cameras see, and apart from one another."""
        centers = cameras.centers.cpu().double().numpy()
        low, high = robust_bounds(centers).numpy() if len(centers) > 1 else self.bounds
        lengths = [0.04 * float(np.linalg.norm(high - low))]
        if self._bounds:
            lengths.append(0.02 * float(np.linalg.norm(self.bounds[1] - self.bounds[0])))
        apart = KDTree(centers).query(centers, min(2, len(centers)))[0].reshape(len(centers), -1)
        lengths.append(0.5 * float(np.median(apart[:, -1])))
        return max(min((length for length in lengths if length > 0), default=1.0), 1e-3)

    def add_trajectory(self, name: str, trajectory: Trajectory | np.ndarray) -> None:
        """A path: a trajectory or positions ``(N, 3)``."""
        centers = trajectory
        if isinstance(trajectory, Trajectory):
            self._guess_up(trajectory.poses)
            centers = trajectory.centers.cpu().numpy()
        centers = np.asarray(centers, np.float32)
        if len(centers) < 2:
            return
        handle = self.server.scene.add_line_segments(
            f"/{name}",
            np.stack([centers[:-1], centers[1:]], 1),
            np.array(_TRAJECTORY_COLOR, np.uint8),
            thickness=3.0,
            thickness_units="screen",
        )
        self._put(name, [handle], centers)

    def add_occupancy(
        self, name: str, grid: VoxelGrid, palette: Sequence, poses: np.ndarray | None = None
    ) -> None:
        """Labelled voxels; a clip ``(T, X, Y, Z)`` follows the time slider.

        Args:
            name: Of the layer.
            grid: With labels.
            palette: RGB per label.
            poses: ``(T, 4, 4)``, grid to world, of a grid that moves. Defaults to None.
        """
        self._clips[name] = OccupancyClip(self.server.scene, name, grid, palette, poses)
        longest = max(len(clip) for clip in self._clips.values())
        if longest > 1:
            self._frame.max = longest - 1
            self._time_folder.visible = True
        handles = self._clips[name].show(int(self._frame.value))
        self._put(name, handles, self._clips[name].corners)

    def _show_frames(self) -> None:
        for name, clip in list(self._clips.items()):
            self._put(name, clip.show(int(self._frame.value)))

    def add_localization(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Localised queries: green is certain, yellow is not, red has failed.

        Args:
            name: Of the layer.
            rows: ``queries`` of the ``results.json`` that ``mmcity localize`` writes.
        """
        cameras, colors, texts = localization_cameras(rows)
        if cameras is None:
            raise ValueError(f"{name}: expected at least one query with a pose, got none")
        self.add_cameras(name, cameras, color=colors)
        labels = [
            self.server.scene.add_label(f"/{name}/label/{row}", text, position=center)
            for row, (text, center) in enumerate(zip(texts, cameras.centers.numpy()))
        ]
        self._put(name, [*self._handles[name], *labels])

    def add_frame(self, result: Any, max_points: int = 4000, keep: int = 300) -> None:
        """One frame of a live stream: its points, its picture and the path so far.

        Args:
            result: :class:`~mmcity.apis.FrameResult`.
            max_points: Most confident points to show per frame. Defaults to 4000.
            keep: Frames whose points stay; older ones go. Defaults to 300.
        """
        points = result.points.reshape(-1, 3)
        rows = np.argsort(result.points_conf.ravel())[-max_points:]
        rows = rows[np.isfinite(points[rows]).all(1)]
        handles = list(self._handles.get("stream", []))
        xyz = points[rows].astype(np.float32)
        if len(xyz):
            if not handles:
                bounds = robust_bounds(xyz).numpy()
                self._point_size = float(np.linalg.norm(bounds[1] - bounds[0])) / 500
            handles.append(
                self.server.scene.add_point_cloud(
                    f"/stream/{result.index}",
                    xyz,
                    result.image.reshape(-1, 3)[rows],
                    point_size=self._point_size,
                    precision="float32",
                )
            )
        self._put("stream", handles[-keep:], xyz)
        height, width = result.depth.shape
        camera = Cameras(result.K, np.linalg.inv(result.cam_to_world), width, height)
        self.add_cameras("stream camera", camera, [result.image])
        self._path.append(result.cam_to_world[:3, 3])
        self.add_trajectory("stream path", np.stack(self._path))

    # ------------------------------------------------------------ the view

    @property
    def bounds(self) -> np.ndarray:
        """``(2, 3)`` lower and upper corner of what is shown, without cameras if they can."""
        found = self._bounds or self._camera_bounds
        if not found:
            return np.array([[-1.0, -1, -1], [1, 1, 1]])
        boxes = np.stack(list(found.values()))
        return np.stack([boxes[:, 0].min(0), boxes[:, 1].max(0)])

    def _frame_scene(self) -> None:
        """First view of a browser: as :meth:`look_from` says, else of all from outside."""
        start = self.server.initial_camera
        start.up = self._up
        looks = self._looks or first_look(self.bounds, self._up, self._seen_from)
        start.position, start.look_at = looks

    def look_from(self, position: Sequence[float], target: Sequence[float]) -> None:
        """Sets the first view of browsers that open from now on."""
        self._looks = np.asarray(position, np.float64), np.asarray(target, np.float64)
        self._frame_scene()

    # ------------------------------------------------------------ browsers

    def _welcome(self, client) -> None:
        client.camera.on_update(lambda _: self._stale.add(client.client_id))
        self._stale.add(client.client_id)

    def _farewell(self, client) -> None:
        for stream in list(self._streams.values()):
            stream.forget(client.client_id)

    def _mark_stale(self) -> None:
        self._stale.update(self.server.get_clients())

    def _remove_stream(self, name: str) -> None:
        stream = self._streams.pop(name, None)
        if stream is not None:
            stream.remove()

    def _stream_cells(self) -> None:
        """Thread: send cells to browsers whose camera has moved; play clips."""
        last_step = time.monotonic()
        while not self._closed.wait(_UPDATE_SECONDS):
            clients = self.server.get_clients()
            for client_id in [i for i in list(self._stale) if i in clients]:
                self._stale.discard(client_id)
                count = sum(s.update(clients[client_id]) for s in list(self._streams.values()))
                if self._streams:
                    self.set_status(f"{count:,} Gaussians in view")
            if self._play.value and time.monotonic() - last_step > _PLAY_SECONDS:
                last_step = time.monotonic()
                self._frame.value = (int(self._frame.value) + 1) % (int(self._frame.max) + 1)

    @property
    def url(self) -> str:
        """Address of the viewer."""
        return f"http://{self.server.get_host()}:{self.server.get_port()}"

    def wait(self) -> None:
        """Serve until interrupted or closed."""
        try:
            while not self._closed.wait(1.0):
                pass
        except KeyboardInterrupt:
            self.close()

    def close(self) -> None:
        """Stop serving."""
        self._closed.set()
        self._worker.join(timeout=5)
        self.server.stop()
