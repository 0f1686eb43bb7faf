"""The MuJoCo model: poses in, fingertips, contacts and ray hits out. No simulation runs, only geometry."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import mujoco
import numpy as np
from numpy.typing import NDArray

from pipeline.data.twin.hand import CHAINS, JOINTS_PER_CHAIN, TIP_SITES
from pipeline.data.twin.mjcf import Group
from pipeline.data.twin.scene import CUBE_BODY, CUBE_FACES, MATERIALS, world_mjcf

FloatArray = NDArray[np.float64]
JOINTS = JOINTS_PER_CHAIN * len(CHAINS)
WORLD = -1  # owner of static geoms; chains are 0..3, the cube is CUBE
CUBE = len(CHAINS)


@dataclass(frozen=True)
class Hits:
    """What rays met: geom (-1: nothing), distance in ray lengths, unit normal. [N], [N], [N, 3]."""

    geom: NDArray[np.int32]
    distance: FloatArray
    normal: FloatArray


@dataclass(frozen=True)
class Contacts:
    """Overlaps of two owners (WORLD, a chain or CUBE) that are not neighbours in one chain.

    depth_C is in metres; normal_C3 points from the first owner's geom to the second's.
    """

    owner_C2: NDArray[np.int64]
    depth_C: FloatArray
    normal_C3: FloatArray


def group_mask(*groups: Group) -> NDArray[np.uint8]:
    """The geom groups that rays may meet, as MuJoCo wants them."""
    mask = np.zeros(len(Group), np.uint8)  # as many as MuJoCo has
    mask[list(groups)] = 1
    return mask


class HandModel:
    """Hand, cube and surroundings at one pose at a time. Not to be shared between threads.

    `moving` is the mask of the geom groups that change with the pose; details count only if wanted.
    """

    def __init__(self, details: bool = True) -> None:
        self.model = mujoco.MjModel.from_xml_string(world_mjcf())
        self.data = mujoco.MjData(self.model)
        self.materials_G = self.model.geom_matid.copy()
        self.moving = group_mask(Group.MOVING, *([Group.DETAIL] if details else []))
        self.moving_geoms = np.flatnonzero(self.moving[self.model.geom_group])
        self._cube_geom = int(self.model.body(CUBE_BODY).geomadr[0])
        self._tips = [self.model.site(name).id for name in TIP_SITES]
        self._corner_signs = np.array(list(product((-1, 1), repeat=3)))
        self._boxes = self.model.geom_aabb[self.moving_geoms]  # centre and half sizes in the geom's frame
        self._cube_material = list(MATERIALS).index(CUBE_FACES[0])
        mujoco.mj_kinematics(self.model, self.data)

    def pose(self, joints_16: FloatArray, cube_7: FloatArray) -> None:
        """Places the hand (radians) and the cube (metres, unit quaternion w x y z)."""
        self.data.qpos[:JOINTS] = joints_16
        self.data.qpos[JOINTS:] = cube_7
        mujoco.mj_kinematics(self.model, self.data)

    def fingertips(self) -> FloatArray:
        """The label of the current pose [12]: index, middle, ring, thumb, each x, y, z, metres."""
        return np.array(self.data.site_xpos[self._tips]).ravel()

    def contacts(self) -> Contacts:
        """Overlaps at the current pose, without those between the palm and a chain's first two links."""
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_collision(self.model, self.data)
        count = self.data.ncon
        bodies = self.model.geom_bodyid[self.data.contact.geom[:count]].astype(np.int64).reshape(-1, 2) - 1
        owner = np.where(bodies < 0, WORLD, bodies // JOINTS_PER_CHAIN)
        link = bodies % JOINTS_PER_CHAIN
        depth = -np.array(self.data.contact.dist[:count])
        normal = np.array(self.data.contact.frame[:count]).reshape(-1, 9)[:, :3]
        root = (link <= 1) & (owner >= 0) & (owner < CUBE)
        at_palm = (owner[:, 0] == WORLD) & root[:, 1] | (owner[:, 1] == WORLD) & root[:, 0]
        kept = (depth > 0) & (owner[:, 0] != owner[:, 1]) & ~at_palm
        return Contacts(owner[kept], depth[kept], normal[kept])

    def cast(
        self, origin_3: FloatArray, directions_N3: FloatArray, groups: NDArray[np.uint8], reach: float
    ) -> Hits:
        """Casts rays from one origin at the geoms of some groups that are nearer than `reach` metres."""
        count = len(directions_N3)
        geom, distance, normal = np.empty(count, np.int32), np.empty(count), np.empty(3 * count)
        flat = np.ascontiguousarray(directions_N3).reshape(-1)
        mujoco.mj_multiRay(
            self.model, self.data, origin_3, flat, groups, True, -1, geom, distance, normal, count, reach
        )
        return Hits(geom, distance, normal.reshape(-1, 3))

    def materials(self, geom_N: NDArray[np.int32], normal_N3: FloatArray) -> NDArray[np.intp]:
        """The material index of each hit; the cube's depends on the face, found from the normal."""
        material: NDArray[np.intp] = self.materials_G[geom_N].astype(np.intp)
        on_cube = np.flatnonzero(geom_N == self._cube_geom)
        turn = self.data.geom_xmat[self._cube_geom].reshape(3, 3)
        local = np.einsum("ni,ij->nj", normal_N3[on_cube], turn)
        axis = np.abs(local).argmax(1)
        negative = local[np.arange(len(local)), axis] < 0
        material[on_cube] = self._cube_material + 2 * axis + negative
        return material

    def moving_corners(self) -> FloatArray:
        """The corners [G, 8, 3] of the boxes round the moving geoms, metres."""
        centre, half = self._boxes[:, :3], self._boxes[:, 3:]
        local = centre[:, None] + half[:, None] * self._corner_signs
        turn = self.data.geom_xmat[self.moving_geoms].reshape(-1, 3, 3)
        place = self.data.geom_xpos[self.moving_geoms][:, None]
        corners: FloatArray = place + np.einsum("gij,gcj->gci", turn, local)
        return corners
