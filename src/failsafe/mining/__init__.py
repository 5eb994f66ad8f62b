"""From the failures of a policy to corrections that are proven with this policy."""
