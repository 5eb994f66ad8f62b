"""Privileged-state plans: a task as stages, and the controller that follows them."""
