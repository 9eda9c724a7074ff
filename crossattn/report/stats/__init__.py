"""Statistics of paired seeds and items: tests, intervals, comparisons of variants."""
