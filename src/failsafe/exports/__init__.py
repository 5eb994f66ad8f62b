"""Exporters: datasets in the formats of other projects.

`export` writes a dataset with one of the registry's `exporters`; `contract` states what an exporter is.
"""
