"""LIBERO's tasks, solved from their goal predicates and the geometry of their scenes.

`expert` carries out the goals of a task one after the other. `search` finds, once per task and object, how
an object is grasped and where it is put, and how a door, a drawer or a knob is moved: candidates from the
geometry (`grasps`, `placements`, `handles`), filtered by the kinematics of the arm (`kinematics`), and tried
in a simulator of their own. No task has code of its own.
"""
