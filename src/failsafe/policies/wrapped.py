"""What policies around a base policy have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from failsafe.policies.contract import ActionSpace, Policy, needs_full_quality


class WrappedPolicy:
    """Base class of a policy that acts around a base policy: it has its views and its kind of actions.

    Args:
        base: The base policy.
    """

    def __init__(self, base: Policy) -> None:
        self._base = base

    @property
    def name(self) -> str:
        """Name in messages: the base policy's."""
        return self._base.name

    @property
    def action_space(self) -> ActionSpace:
        """The base policy's action space, with one action per chunk."""
        return replace(self._base.action_space, chunk=1)

    @property
    def full_quality(self) -> bool:
        """Whether the base policy is shown images of the suite's own quality."""
        return needs_full_quality(self._base)

    @property
    def views(self) -> Mapping[str, int]:
        """The base policy's views."""
        return self._base.views
