"""Egresslens: what leaves the mesh, from which workload, to where, and was it allowed."""

__version__ = "0.1.0"
