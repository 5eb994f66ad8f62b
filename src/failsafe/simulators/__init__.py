"""The contract of a simulator, its conformance suite, and one package for each physics engine."""
