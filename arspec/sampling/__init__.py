"""`arspec sample`: options -> inputs -> plan -> draw -> files. Each step is a file."""

from arspec.sampling.options import Options, Outcome

__all__ = ["Options", "Outcome"]
