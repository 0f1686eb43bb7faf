"""What is trained and measured; knows neither Ray nor Slurm."""
