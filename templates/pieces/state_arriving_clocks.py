"""Conditions that arrive with the steps, beside slower clocks of what is drawn."""

from __future__ import annotations

from .state_arriving import ArrivingState
from .state_clocks import Clocked


class ArrivingClocked(ArrivingState, Clocked):
    """A state with slower clocks whose steps are given the newest values of some conditions."""

    def clone(self) -> ArrivingClocked:
        """A state that moves on its own."""
        other = super().clone()
        assert isinstance(other, ArrivingClocked)
        return other
