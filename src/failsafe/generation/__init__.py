"""Nominal, perturb, judge, correct, verify: from a seed to failures with proven ways back."""
