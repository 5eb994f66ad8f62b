"""Optimization of the small networks: AdamW, a learning-rate schedule, a running average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)
_MAX_NORM = 5.0
"""Norm to which gradients are clipped."""


class Optimization(Generic[Net]):
    """AdamW with warm-up and cosine decay, gradient clipping, and a running average of the weights.

    Args:
        net: The network.
        rate: Highest learning rate.
        decay: Weight decay.
        average: Factor of the running average per step, once the average has settled.
        steps: Number of steps in total.

    Attributes:
        parts: Everything that changes from step to step. A resumed run loads their states.
    """

    def __init__(self, net: Net, rate: float, decay: float, average: float, steps: int) -> None:
        self._net = net
        self._averaged = _running_average(net, average)
        self._optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=decay)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, _warm_cosine(steps))
        self.parts: tuple[Any, ...] = (net, self._averaged, self._optimizer, self._schedule)

    @property
    def averaged(self) -> Net:
        """The network with the averaged weights."""
        return cast(Net, self._averaged.module)

    def step(self, loss: Tensor) -> float:
        """Take one optimizer step; return the value of the loss before it."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._net.parameters(), _MAX_NORM)
        self._optimizer.step()
        self._schedule.step()
        self._averaged.update_parameters(self._net)
        return float(loss.detach())


def _running_average(net: nn.Module, factor: float) -> torch.optim.swa_utils.AveragedModel:
    """Return a running average of the weights. It forgets faster at first, so that it does not lag behind."""

    def update(kept: Sequence[Tensor], new: Sequence[Tensor], steps: Tensor | int) -> None:
        for old, current in zip(kept, new, strict=True):
            if old.is_floating_point():
                old.lerp_(current, 1 - min(factor, (1 + float(steps)) / (10 + float(steps))))
            else:
                old.copy_(current)

    average = cast(Any, torch.no_grad()(update))
    return torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=average, use_buffers=True)


def _warm_cosine(steps: int) -> Callable[[int], float]:
    """Return the learning rate by step as a share of the highest: a linear warm-up, then a cosine decay."""
    warm = max(1, min(300, steps // 10))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm)))) + 1e-3

    return factor
