"""One small contract for any physics engine, and the engines that speak it."""
