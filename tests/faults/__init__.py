"""Campaigns of faults, each repeatable from a seed: `make faults`, `make faults-long`."""
