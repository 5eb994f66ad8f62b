"""The adapter of ManiSkill, which steps SAPIEN directly."""
