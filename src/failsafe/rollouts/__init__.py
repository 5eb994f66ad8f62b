"""The control loop: what moves a robot, its hooks, branches and records."""
