"""FailSafe-VLM: LLaVA-OneVision as a recovery model, in this process or behind an endpoint.

Modules that need transformers state it in their docstring; `prompt` and `answer` need no extra packages.
"""
