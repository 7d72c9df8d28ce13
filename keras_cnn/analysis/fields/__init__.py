"""Receptive fields and costs, call by call."""
