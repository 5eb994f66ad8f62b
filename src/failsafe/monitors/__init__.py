"""The monitor: when to look, when to believe, when to act, when to give up."""
