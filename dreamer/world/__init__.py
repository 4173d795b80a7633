"""World models: what they learn from replay and how they are stepped forward."""
