"""A trained world model as an environment: dreamed in, measured, planned in and played."""
