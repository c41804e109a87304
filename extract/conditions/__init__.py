"""Conditions rendered: what a photograph is translated from, its pose, its parts or its edges."""
