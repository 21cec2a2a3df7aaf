"""Proofs on a real engine that drafts, whatever they are and whenever they come, change nothing of what it says."""
