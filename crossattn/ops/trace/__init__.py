"""What an attention looked at, from the arrays that it had."""
