"""Recovery models: the contract, the compact network, LLaVA-OneVision, and the baselines."""
