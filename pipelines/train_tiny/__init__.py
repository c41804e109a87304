"""Trains the embedded default on rendered toy objects: `python -m matchkit.pipelines.train_tiny --out DIR`.

A maintainer's command: users never need it, since its result ships with the package (`extract/backbones/tiny/weights`).
"""
