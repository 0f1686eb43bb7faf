"""Values flow right, imports point left: a module may import from its own layer and earlier ones."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = [
    "pipeline.errors pipeline.units pipeline.packpaths pipeline.paths pipeline.cli pipeline.signals "
    "pipeline.gpumemory pipeline.section pipeline.augment_config pipeline.schedule_config "
    "pipeline.config pipeline.configfile",
    "pipeline.jsonl pipeline.records pipeline.trials pipeline.spread pipeline.provenance",
    "pipeline.data pipeline.models pipeline.optim pipeline.schedule pipeline.losses pipeline.metrics "
    "pipeline.device pipeline.checkpoint pipeline.progress pipeline.microbatch pipeline.ema",
    "pipeline.state pipeline.meter pipeline.stepper pipeline.runrecord pipeline.trainer pipeline.train "
    "pipeline.predict",
    "pipeline.leaderboard pipeline.leaderboard_rows pipeline.final",
    "tune",
    "slurm",
]
FORBIDDEN = {"pipeline": {"ray", "submitit", "tune", "slurm"}, "tune": {"submitit", "slurm"}, "slurm": set()}
EXCEPTIONS = {
    ("tune.search", "slurm.search"),  # the command that puts the parts together
    ("tune.status", "slurm.glance"),  # adds what the queue says, where there is one
}
SOURCES = sorted(path for package in FORBIDDEN for path in (ROOT / package).rglob("*.py"))


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(name):
    """The layer of the longest listed prefix of a module's name; None for other projects' modules."""
    fits = [
        (len(prefix), number)
        for number, line in enumerate(LAYERS)
        for prefix in line.split()
        if name == prefix or name.startswith(prefix + ".")
    ]
    return max(fits)[1] if fits else None


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_left(path):
    name = module_name(path)
    package = name.partition(".")[0]
    own = layer(name)
    assert own is not None or name == "pipeline", f"{name} is in no layer; add it to LAYERS"
    for target in imported(path):
        if any(name == ours and f"{target}.".startswith(f"{theirs}.") for ours, theirs in EXCEPTIONS):
            continue
        assert target.partition(".")[0] not in FORBIDDEN[package], f"{name} imports {target}"
        found = layer(target)
        assert found is None or own is None or found <= own, f"{name} imports {target}, which is to its right"
