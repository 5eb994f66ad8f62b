"""Experts: something that solves a task once, from ground truth."""
