"""Which packed data set a command works on: the one given, or the twin, rendered on first use."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import TwinConfig
from pipeline.errors import DataError
from pipeline.packpaths import PackPaths
from pipeline.paths import Workspace


def twin_paths(workspace: Workspace, twin: TwinConfig) -> PackPaths:
    """Where the twin of these sizes and seed lies, rendered or not."""
    return workspace.data(f"twin-{twin.size}px-{twin.train}+{twin.test}-seed{twin.seed}")


def data_set(given: Path | None, workspace: Workspace, twin: TwinConfig) -> Path:
    """The folder of the packed data set: `given`, else the twin, which is rendered if it is not there yet.

    Shows on stderr how far the rendering is. Several commands may render the same twin at once: the first to
    finish makes it appear, the others use it. Raises DataError if it cannot be rendered or written.
    """
    if given is not None:
        return given
    paths = twin_paths(workspace, twin)
    if not paths.meta.exists():
        _render(paths, twin)
    return paths.root


def _render(paths: PackPaths, twin: TwinConfig) -> None:
    from pipeline.data.progress import progress
    from pipeline.data.twin.make import render_pack

    try:
        with progress("rendering", twin.train + twin.test) as step:
            render_pack(paths.root, twin, step=step)
    except DataError:
        if not paths.meta.exists():  # else somebody finished the same twin meanwhile
            raise
