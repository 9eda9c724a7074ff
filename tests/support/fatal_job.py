"""A job that dies once: killed, or its machine is wanted back."""

import os
import signal

from crossattn.launch.job import Job

# The first is killed without a word, the second gets submitit's signal before a preemption.
DEATHS = {"cross-attention": signal.SIGKILL, "blind": signal.SIGUSR2}
# By then the checkpoint of step 5 is on the disk: that of step 10 waits for it.
LAST_STEP = 12


class FatalJob(Job):
    """Dies after so many steps of its first start."""

    def _train(self, report):
        first = report.status.starts == self.ticket.number == 1
        progress = report.progress

        def fatal(label, step, metrics):
            progress(label, step, metrics)
            if first and step == LAST_STEP:
                os.kill(os.getpid(), DEATHS[self.ticket.variant])

        report.progress = fatal
        super()._train(report)
