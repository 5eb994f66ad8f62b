"""How good it is: metrics, statistics, paired runs."""
