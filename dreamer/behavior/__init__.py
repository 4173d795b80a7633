"""What to do in a world: an actor and a critic that learn from imagined rollouts."""
