"""From a seed to failures with proven corrections: nominal, perturb, judge, correct, verify."""
