"""Blocks of a report as Markdown, HTML, CSV, LaTeX and plain text."""
