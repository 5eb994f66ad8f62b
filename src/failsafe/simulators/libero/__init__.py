"""LIBERO's 130 tasks and their PRO variants on MuJoCo, as "libero_goal/3"."""
