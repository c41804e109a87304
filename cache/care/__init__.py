"""Finds what is wrong with a store, says it, and puts right what can be put right."""
