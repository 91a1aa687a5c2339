"""Tallystick: buy and sell GPU compute, settled on a chain by receipts that both sides signed."""
