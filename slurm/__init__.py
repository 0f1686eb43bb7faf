"""Slurm: sites, queue, workers and jobs."""
