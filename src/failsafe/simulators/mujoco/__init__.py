"""MuJoCo: exact states, objects, contacts, disturbances and images, for the suites that are built on it.

`metaworld` stands on this package. A simulator of one's own can, too: it has a model and its data, and uses
the modules here for everything that is not particular to its robot.
"""
