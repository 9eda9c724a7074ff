"""`folder`: pictures of one's own beside one file of texts."""
