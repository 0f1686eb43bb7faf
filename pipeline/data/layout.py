"""Which raw layout a folder holds: that of pipeline.data.folders or that of pipeline.data.tensors."""

from __future__ import annotations

from pathlib import Path

from pipeline.data.folders import open_folders
from pipeline.data.raw import SPLITS, RawData
from pipeline.data.tensors import images_file, labels_file, open_tensors
from pipeline.errors import DataError

ALLOWED = "numbered folders (train/X/0/rgb/0.png, ...) or tensors (trainX.pt, trainY.pt, testX.pt)"
NAMES_SHOWN = 6  # of what a folder holds instead


def open_raw(root: Path, keep_going: bool = False) -> RawData:
    """Finds out which of the two layouts `root` holds and lists its samples.

    DataError if it holds neither, both, or one that is not complete; `keep_going` leaves a split that cannot
    be listed out, if the other one can.
    """
    if not root.is_dir():
        raise DataError(
            f"{root}: {'is a file' if root.exists() else 'missing'}; expected a folder with {ALLOWED}"
        )
    folders = [f"{name}/" for name in SPLITS if (root / name).is_dir()]
    files = [path.name for name in SPLITS for path in (images_file(root, name), labels_file(root, name))]
    tensors = [name for name in files if (root / name).exists()]
    if folders and tensors:
        found = f"both {', '.join(folders)} and {', '.join(tensors)}"
        raise DataError(f"{root}: holds {found}; allowed are {ALLOWED}, not both: move one of them away")
    if not folders and not tensors:
        raise DataError(f"{root}: holds {_names(root)}; expected {ALLOWED}")
    return (open_tensors if tensors else open_folders)(root, keep_going)


def _names(root: Path) -> str:
    names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in root.iterdir())
    if not names:
        return "nothing"
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
