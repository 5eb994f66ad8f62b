"""FailSafe-VLM: LLaVA-OneVision as a recovery model, in this process or behind an endpoint.

Nothing here is imported until it is asked for: the modules that need transformers say so in their name's
docstring, and `prompt` and `answer` need nothing but the records.
"""
