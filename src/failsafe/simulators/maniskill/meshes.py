"""Simplified visual meshes for robots, made at first use and cached on disk.

Without a GPU the rendering time depends on the number of triangles: 157,000 in a Panda and 425,000 in its
wrist camera. At the image sizes of policies, a tenth of them gives the same images. The licence of the
assets does not allow redistribution, so the meshes are simplified on the user's machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Integer

_FORMAT = 1
"""Version of the algorithm. Increase it with every change of `simplified`, so that old files are not read."""


class Mesh(NamedTuple):
    """Triangles with one normal for each vertex; vertices in the units of their file."""

    vertices: Float[np.ndarray, "n 3"]
    triangles: Integer[np.ndarray, "m 3"]
    normals: Float[np.ndarray, "n 3"]


@dataclass(frozen=True)
class Detail:
    """Level of detail of a simplified mesh.

    Attributes:
        ratio: Share of triangles to keep.
        least: Least number of triangles, so that small parts close to a camera (fingers) keep their shape.
        most: Largest number of triangles.
        crease: Angle between adjacent faces above which their edge is sharp, radians.
    """

    ratio: float = 0.1
    least: int = 300
    most: int = 3000
    crease: float = 0.7

    def target(self, triangles: int) -> int:
        """Return how many of a number of triangles to keep."""
        return min(triangles, self.most, max(self.least, round(self.ratio * triangles)))


def cache_folder() -> Path:
    """Return the cache folder: `meshes` in `$FAILSAFE_CACHE`, else in `~/.cache/failsafe`."""
    return Path(os.environ.get("FAILSAFE_CACHE") or "~/.cache/failsafe").expanduser().absolute() / "meshes"


def simplified(
    vertices: Float[np.ndarray, "n 3"], triangles: Integer[np.ndarray, "m 3"], detail: Detail
) -> Mesh:
    """Return a mesh with fewer triangles and new normals.

    Args:
        vertices: Vertices, possibly repeated (renderers split them along every edge). [n, 3]
        triangles: Rows of `vertices`. [m, 3]
        detail: Level of detail.
    """
    target = detail.target(len(triangles))
    # Simplification does not cross edges whose faces do not share vertices.
    points, faces = _weld(vertices, triangles)
    points, faces = _decimate(points, faces, target)
    cell = float(np.linalg.norm(np.ptp(vertices, axis=0))) / 1000
    while len(faces) > 1.2 * target:
        # Fine relief (the camera's housing) simplifies only after merging vertices in small cells.
        points, faces = _decimate(*_weld(np.round(points / cell) * cell, faces), target)
        cell *= 2
    return _with_normals(points, faces, detail.crease)


def load_simplified(
    vertices: Float[np.ndarray, "n 3"],
    triangles: Integer[np.ndarray, "m 3"],
    detail: Detail,
    folder: Path,
) -> Mesh:
    """Return the result of `simplified`, cached in a folder.

    If the folder is not writable, the mesh is simplified again in every process.

    Args:
        vertices: Vertices. [n, 3]
        triangles: Rows of `vertices`. [m, 3]
        detail: Level of detail.
        folder: The cache folder.
    """
    key = hashlib.sha256(repr((_FORMAT, detail, vertices.shape, triangles.shape)).encode())
    key.update(np.ascontiguousarray(vertices, dtype=np.float32).tobytes())
    key.update(np.ascontiguousarray(triangles, dtype=np.uint32).tobytes())
    path = folder / f"{key.hexdigest()[:32]}.npz"
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            return Mesh(file["vertices"], file["triangles"], file["normals"])
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        pass  # missing or damaged: simplify again
    mesh = simplified(vertices, triangles, detail)
    with contextlib.suppress(OSError):
        _write(path, mesh)
    return mesh


class MeshLibrary:
    """The simplified meshes of one process, each read from disk once.

    Args:
        detail: Level of detail.
        folder: The cache folder; None: `cache_folder()`.
    """

    def __init__(self, detail: Detail | None = None, folder: Path | None = None) -> None:
        self._detail = detail or Detail()
        self._folder = folder or cache_folder()
        self._meshes: dict[tuple[str, int], Mesh] = {}

    def lighten(self, entities: Iterable[Any]) -> int:
        """Replace the meshes of SAPIEN entities in a scene by simplified ones.

        Poses, scales and materials do not change. Shapes that are not meshes, and parts with a texture (whose
        coordinates would be lost), are kept.

        Returns:
            Number of triangles of the entities afterwards.
        """
        import sapien

        total = 0
        for entity in entities:
            old: Any = entity.find_component_by_type(sapien.render.RenderBodyComponent)
            if old is None:
                continue
            new: Any = sapien.render.RenderBodyComponent()
            new.name, new.shading_mode, new.visibility = old.name, old.shading_mode, old.visibility
            for shape in old.render_shapes:
                if isinstance(shape, sapien.render.RenderShapeTriangleMesh):
                    lighter = [self._lighter(shape, i) for i in range(len(shape.parts))]
                else:
                    lighter = [shape.clone()]
                for each in lighter:
                    new.attach(each)
                    total += sum(len(part.triangles) for part in each.parts)
            entity.remove_component(old)
            entity.add_component(new)
        return total

    def _lighter(self, shape: Any, index: int) -> Any:
        """Return the simplified shape of one part of a mesh."""
        import sapien

        part = shape.parts[index]
        textures = ("base_color", "normal", "roughness", "metallic", "emission", "transmission")
        if any(getattr(part.material, f"{name}_texture") is not None for name in textures):
            mesh, uvs = Mesh(part.vertices, part.triangles, part.get_vertex_normal()), part.get_vertex_uv()
        else:
            mesh = self._mesh(shape.filename, index, part)
            uvs = np.zeros((len(mesh.vertices), 2), dtype=np.float32)
        lighter: Any = sapien.render.RenderShapeTriangleMesh(
            mesh.vertices, mesh.triangles, mesh.normals, uvs, part.material
        )
        lighter.scale, lighter.local_pose = shape.scale, shape.local_pose
        lighter.name, lighter.front_face = shape.name, shape.front_face
        return lighter

    def _mesh(self, filename: str, index: int, part: Any) -> Mesh:
        # On disk the key is the content, which is slow to read back from the renderer. Within a process the
        # file name is sufficient; a mesh without a file is not cached in memory.
        key = (filename, index)
        if not filename or key not in self._meshes:
            mesh = load_simplified(part.vertices, part.triangles, self._detail, self._folder)
            self._meshes[key] = mesh
        return self._meshes[key]


def _weld(
    vertices: Float[np.ndarray, "n 3"], triangles: Integer[np.ndarray, "m 3"]
) -> tuple[Float[np.ndarray, "p 3"], Integer[np.ndarray, "k 3"]]:
    """Merge equal vertices, and remove the triangles that become degenerate."""
    points, rows = np.unique(vertices.astype(np.float64), axis=0, return_inverse=True)
    faces = rows.reshape(-1)[triangles]
    a, b, c = faces.T
    return points, faces[(a != b) & (b != c) & (c != a)]


def _decimate(
    points: Float[np.ndarray, "p 3"], faces: Integer[np.ndarray, "m 3"], target: int
) -> tuple[Float[np.ndarray, "q 3"], Integer[np.ndarray, "k 3"]]:
    """Reduce a mesh to about `target` triangles."""
    import fast_simplification

    if target >= len(faces):
        return points, faces
    simplify: Any = fast_simplification.simplify  # its annotations claim a third result
    return _weld(*simplify(points, faces.astype(np.int64), target_count=target))


def _with_normals(points: Float[np.ndarray, "p 3"], faces: Integer[np.ndarray, "m 3"], crease: float) -> Mesh:
    """Compute area-weighted vertex normals, averaged over adjacent faces without a crease between them."""
    corners = points[faces]
    weighted = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    unit = weighted / np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-30)
    order = np.argsort(faces.reshape(-1), kind="stable")
    ends = np.cumsum(np.bincount(faces.reshape(-1), minlength=len(points)))
    normals = np.empty((faces.size, 3))
    for around in np.split(order, ends[:-1]):  # the corners that meet in one point
        smooth = unit[around // 3] @ unit[around // 3].T > np.cos(crease)
        normals[around] = smooth @ weighted[around // 3]
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    triangles = np.arange(faces.size, dtype=np.uint32).reshape(-1, 3)
    return Mesh(corners.reshape(-1, 3).astype(np.float32), triangles, normals.astype(np.float32))


def _write(path: Path, mesh: Mesh) -> None:
    """Write a file atomically, as other workers may write the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, vertices=mesh.vertices, triangles=mesh.triangles, normals=mesh.normals)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
