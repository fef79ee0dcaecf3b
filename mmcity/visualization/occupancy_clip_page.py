"""One HTML file that shows a clip of occupancy: turn, zoom, play; nothing is loaded."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmcity.datasets.occupancy_labels import UNIFIED_CLASSES, UNIFIED_PALETTE
from mmcity.utils.fileio import atomic_path

from .occupancy_splats import surface_voxels

__all__ = ["write_clip_page"]

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>__TITLE__</title>
<style>
body { margin: 0; font: 13px sans-serif; background: #f4f4f2; color: #222; overflow: hidden }
canvas { display: block; width: 100vw; height: 100vh; cursor: grab }
#bar { position: fixed; left: 12px; bottom: 12px; background: #fffc; padding: 8px 12px;
       border-radius: 6px }
#bar input { width: 240px; vertical-align: middle }
#key { position: fixed; right: 12px; top: 12px; background: #fffc; padding: 8px 12px;
       border-radius: 6px; line-height: 1.6 }
#key i { display: inline-block; width: 12px; height: 12px; margin-right: 6px }
</style></head><body><canvas></canvas>
<div id="bar"><button>pause</button> <input type="range" min="0" value="0">
<span></span> &nbsp; drag to turn, wheel to zoom</div><div id="key"></div>
<script>
const data = __DATA__;
const canvas = document.querySelector("canvas");
const gl = canvas.getContext("webgl2", {preserveDrawingBuffer: true});
const slider = document.querySelector("input"), button = document.querySelector("button");
const note = document.querySelector("span"), key = document.getElementById("key");
function program(vertex, fragment) {
  const p = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const s = gl.createShader(kind);
    gl.shaderSource(s, "#version 300 es\\nprecision highp float;" + text);
    gl.compileShader(s);
    if (!gl.getShaderParameter(s, gl.COMPILE_STATUS)) throw gl.getShaderInfoLog(s);
    gl.attachShader(p, s);
  }
  gl.linkProgram(p);
  return p;
}
const shader = program(
  `in vec3 corner; in vec3 normal; in vec4 voxel; uniform mat4 view; uniform vec3 size;
   uniform vec3 palette[64]; out vec3 color;
   void main() {
     float light = 0.62 + 0.38 * max(dot(normal, normalize(vec3(-0.5, 0.35, 1.0))), 0.0);
     color = palette[int(voxel.w)] * light * (0.75 + 0.25 * voxel.z / max(size.z - 1.0, 1.0));
     gl_Position = view * vec4((voxel.xyz + corner - size / 2.0) / size.x, 1.0);
   }`,
  "in vec3 color; out vec4 pixel; void main() { pixel = vec4(color, 1.0); }");
gl.useProgram(shader);
const faces = [];
for (let axis = 0; axis < 3; axis++) for (const side of [0, 1]) {
  const u = (axis + 1) % 3, v = (axis + 2) % 3;
  for (const [a, b] of [[0, 0], [1, 0], [1, 1], [0, 0], [1, 1], [0, 1]]) {
    const c = [0, 0, 0], n = [0, 0, 0];
    c[axis] = side; c[u] = a; c[v] = b; n[axis] = 2 * side - 1;
    faces.push(...c, ...n);
  }
}
function attribute(name, size, stride, offset, divisor) {
  const place = gl.getAttribLocation(shader, name);
  gl.enableVertexAttribArray(place);
  gl.vertexAttribPointer(place, size, divisor ? gl.UNSIGNED_BYTE : gl.FLOAT, false, stride,
                         offset);
  gl.vertexAttribDivisor(place, divisor);
}
gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(faces), gl.STATIC_DRAW);
attribute("corner", 3, 24, 0, 0);
attribute("normal", 3, 24, 12, 0);
const frames = data.frames.map(text => {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const buffer = gl.createBuffer();
  gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
  gl.bufferData(gl.ARRAY_BUFFER, bytes, gl.STATIC_DRAW);
  return {buffer, count: bytes.length / 4};
});
const palette = new Float32Array(192);
data.palette.forEach((rgb, i) => rgb.forEach((x, k) => palette[3 * i + k] = x / 255));
gl.uniform3fv(gl.getUniformLocation(shader, "palette"), palette);
gl.uniform3fv(gl.getUniformLocation(shader, "size"), data.size);
const place = gl.getUniformLocation(shader, "view");
gl.enable(gl.DEPTH_TEST);
gl.clearColor(0.957, 0.957, 0.949, 1);
data.shown.forEach(c => key.insertAdjacentHTML("beforeend",
  `<div><i style="background:rgb(${data.palette[c]})"></i>${data.classes[c]}</div>`));
let yaw = -2.6, pitch = 0.65, distance = 1.15, frame = 0, playing = true, last = 0;
slider.max = frames.length - 1;
function matrix() {
  const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
  const f = [-cy * cp, -sy * cp, -sp], r = [-sy, cy, 0];
  const u = [r[1] * f[2] - r[2] * f[1], r[2] * f[0] - r[0] * f[2], r[0] * f[1] - r[1] * f[0]];
  const focal = 1.8, aspect = canvas.width / canvas.height, near = 0.05, far = 10;
  const a = (far + near) / (far - near), b = -2 * far * near / (far - near);
  const m = [];
  for (let i = 0; i < 3; i++)
    m.push(focal / aspect * r[i], focal * u[i], a * f[i], f[i]);
  m.push(0, 0, a * distance + b, distance);
  return new Float32Array(m);
}
let drawn = "";
function draw(now) {
  requestAnimationFrame(draw);
  if (playing && now - last > 1000 / data.fps) { frame = (frame + 1) % frames.length; last = now; }
  const state = [frame, yaw, pitch, distance, innerWidth, innerHeight].join();
  if (state === drawn) return;
  drawn = state;
  canvas.width = innerWidth * devicePixelRatio; canvas.height = innerHeight * devicePixelRatio;
  gl.viewport(0, 0, canvas.width, canvas.height);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  gl.uniformMatrix4fv(place, false, matrix());
  gl.bindBuffer(gl.ARRAY_BUFFER, frames[frame].buffer);
  attribute("voxel", 4, 4, 0, 1);
  gl.drawArraysInstanced(gl.TRIANGLES, 0, 36, frames[frame].count);
  slider.value = frame; note.textContent = `frame ${frame + 1} / ${frames.length}`;
}
button.onclick = () => { playing = !playing; button.textContent = playing ? "pause" : "play"; };
slider.oninput = () => { frame = +slider.value; playing = false; button.textContent = "play"; };
canvas.onpointermove = e => { if (e.buttons) {
  yaw -= e.movementX * 0.006;
  pitch = Math.min(1.55, Math.max(0.05, pitch + e.movementY * 0.006)); } };
canvas.onwheel = e => { distance = Math.min(5, Math.max(0.3, distance * Math.exp(e.deltaY / 900)));
                        e.preventDefault(); };
requestAnimationFrame(draw);
</script></body></html>
"""


def write_clip_page(
    path: str | Path,
    clip: np.ndarray,
    palette: Sequence[Sequence[int]] = UNIFIED_PALETTE,
    classes: Sequence[str] = UNIFIED_CLASSES,
    free_class: int = 0,
    fps: float = 5.0,
    title: str = "Occupancy",
) -> None:
    """Write a clip as one interactive page (WebGL 2; opens from disk, without a network).

    Args:
        path: Target ``.html``; written whole or not at all.
        clip: Labels ``(T, X, Y, Z)``, sides up to 256.
        palette: RGB per label, up to 64. Defaults to the unified classes'.
        classes: Names per label.
        free_class: Label of empty voxels. Defaults to 0.
        fps: Frames per second. Defaults to 5.
        title: Of the page.

    Raises:
        ValueError: If the clip is too large or a label has no colour.
    """
    if clip.ndim != 4 or max(clip.shape[1:]) > 256:
        raise ValueError(f"clip must be (T, X, Y, Z) with sides up to 256, got {clip.shape}")
    if int(clip.max()) >= min(len(palette), 64):
        raise ValueError(f"label {int(clip.max())} has no colour, the palette has {len(palette)}")
    frames = []
    for voxels in clip:
        index = surface_voxels(voxels, free_class)
        rows = np.concatenate([index, voxels[tuple(index.T)][:, None]], axis=1).astype(np.uint8)
        frames.append(base64.b64encode(rows.tobytes()).decode())
    shown = [int(c) for c in np.unique(clip) if c != free_class]
    data = {
        "frames": frames,
        "size": list(clip.shape[1:]),
        "palette": [list(map(int, color)) for color in palette],
        "classes": list(classes),
        "shown": shown,
        "fps": fps,
    }
    safe = title.replace("&", "&amp;").replace("<", "&lt;")
    text = _PAGE.replace("__TITLE__", safe).replace("__DATA__", json.dumps(data))
    with atomic_path(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")
