"""A real Slurm for the tests, private to them; by hand: `python -m tests.cluster up` and `down`."""

from tests.cluster.cluster import SlurmCluster

__all__ = ["SlurmCluster"]
