"""FailSafe in Gymnasium: an environment with perturbations, and a wrapper that adds them."""
