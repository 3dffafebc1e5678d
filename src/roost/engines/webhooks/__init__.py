"""Webhooks on their way: which goes next (lanes), one try of one (courier), and the loop around them (engine)."""
