"""Windows for learning: selected, rendered, split and read."""
