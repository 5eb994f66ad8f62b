"""Where jobs run: in this process, in several processes that may die, or on a Ray cluster.

`contract` defines what a job and an executor are. `serial`, `processes` and `ray_executor` are the executors.
A new executor implements `contract.Executor` and is registered by name; no job has to change.
"""
