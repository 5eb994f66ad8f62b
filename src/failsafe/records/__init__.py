"""What crosses a border between stages: frozen, versioned, free of any simulator."""
