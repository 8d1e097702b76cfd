"""Decisions. Pure: the time and every byte come in as arguments."""
