"""Turning replayed batches into better parameters, and keeping what was learned."""
