"""From samples to checkpoints."""
