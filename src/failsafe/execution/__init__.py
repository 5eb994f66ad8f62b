"""Where jobs run: in this process, or in several processes that may die.

`contract` defines what a job and an executor are. `serial` and `processes` are the executors. A new executor
implements `contract.Executor` and is registered by name; no job has to change.
"""
