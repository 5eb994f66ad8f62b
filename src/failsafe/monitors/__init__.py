"""The monitor: when to query the model, to raise an alarm, to take over, to hand back and to give up."""
