"""The report card: is it a world model? Every number with its interval, and beside it those of the controls."""
