"""FailSafe: make robot policies survive their own failures.

The folders are the data flow, in this order: `records`, `simulators`, `experts`, `perturbations`,
`generation`, `datasets`, `reports`, `cli`.
"""

__version__ = "0.1.0"
