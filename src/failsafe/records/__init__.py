"""Frozen, versioned records that the stages exchange. Nothing here imports a simulator or torch."""
