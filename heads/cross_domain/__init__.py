"""Exemplars across domains: a condition matched with a photograph, warped, and painted."""
