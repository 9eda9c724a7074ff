"""Where the runs of a suite happen: threads (`lanes`), processes or Slurm jobs (`launcher`)."""
