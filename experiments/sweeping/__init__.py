"""Sweeps in W&B's format: run with its proposals but without its service, and summed up."""
