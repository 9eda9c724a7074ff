"""From the numbers of a suite to a report: statistics, comparisons, tables, figures, document."""
