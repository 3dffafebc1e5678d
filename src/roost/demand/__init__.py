"""What the edges see per app: who waits, how many are in flight."""
