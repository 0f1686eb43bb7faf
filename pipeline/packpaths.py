"""Every file of a packed data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SplitPaths:
    """The arrays of the train or test split of a packed data set."""

    root: Path

    @property
    def rgb(self) -> Path:
        """uint8 [N, 9, H, W]: views 0, 1, 2, each red, green, blue."""
        return self.root / "rgb.npy"

    @property
    def depth(self) -> Path:
        """uint16 [N, 3, H, W]: millimetres; 0 is no return, 65535 the sensor's sentinel."""
        return self.root / "depth.npy"

    @property
    def labels(self) -> Path:
        """float64 [N, 12]: metres; index, middle, ring, thumb, each x, y, z. Absent if unlabelled."""
        return self.root / "labels.npy"

    @property
    def ids(self) -> Path:
        """int64 [N]: the recording's running numbers (field_id), temporal order."""
        return self.root / "ids.npy"

    @property
    def moments(self) -> Path:
        """float64 [N, 15, 3]: count, sum and sum of squares per sample (see pipeline.data.moments)."""
        return self.root / "moments.npy"


@dataclass(frozen=True)
class PackPaths:
    """A packed data set: `train/`, `test/` and `meta.yaml`, which is written last."""

    root: Path

    @property
    def meta(self) -> Path:
        """Counts, sizes and the fingerprint."""
        return self.root / "meta.yaml"

    def split(self, name: str) -> SplitPaths:
        """`train` or `test`."""
        return SplitPaths(self.root / name)
