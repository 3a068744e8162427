"""Several processes: starting them, what they tell each other, signals, SLURM."""
