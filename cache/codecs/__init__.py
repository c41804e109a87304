"""How maps are encoded at rest."""
