"""ManiSkill on SAPIEN, driven directly."""
