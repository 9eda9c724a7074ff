"""Recordings of one's own beside one file of texts, with the times of their words."""
