"""Meta-World 3.1.1: 50 tasks of a Sawyer arm, on the MuJoCo engine."""
