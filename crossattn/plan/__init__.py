"""What a run costs: `dry_run` on this machine, the other modules on a TPU slice, without one."""
