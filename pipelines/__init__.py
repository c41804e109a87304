"""The only corridor: one module a stage, each a function from files to a file, wiring the rooms together."""
