#!/usr/bin/env bash
# A suite as jobs of a real Slurm: a controller and two nodes on this machine alone, a job killed and
# one preempted on the way, and in the end the numbers and the report of a local run.
#
#   bash tests/slurm.sh                                        the quick fusion suite
#   bash tests/slurm.sh fusion --quick --variants blind --seeds 1 --steps 60
#
# It needs Debian's slurm-wlm and munge, which it installs where it may, and root. Where that cannot
# be had it says so and passes.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
suite=("${@:-fusion}")
[ $# -gt 0 ] || suite=(fusion --quick)

cannot() {
  echo "test-slurm: not run: $1"
  exit 0
}
broken() {
  echo "test-slurm: FAILED: $1" >&2
  exit 1
}

[ "$(uname)" = Linux ] || cannot "Slurm's daemons need Linux"
[ "$(id -u)" = 0 ] || cannot "munged and slurmd want to be started by root"
[[ "$(getent hosts "$(hostname)")" = 127.* ]] || cannot "$(hostname) does not resolve to 127.x"
"$python" -c 'import submitit' 2>/dev/null || cannot "$python has no submitit (pip install -e '.[slurm]')"
commands=(munged slurmctld slurmd sbatch)
if ! command -v "${commands[@]}" >/dev/null || [ "$(command -v "${commands[@]}" | wc -l)" -lt 4 ]; then
  command -v apt-get >/dev/null || cannot "there is neither Slurm nor apt-get"
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # which starts no daemons of the system's own
  { apt-get update -q && apt-get install -y -q --no-install-recommends slurm-wlm munge; } \
    >/dev/null 2>&1 </dev/null || cannot "apt-get cannot install slurm-wlm and munge"
fi

base=$(mktemp -d)
chmod 755 "$base"
mkdir "$base"/{run,log,state,spool}
host=$(hostname)
export SLURM_CONF=$base/slurm.conf
launcher=

finish() {
  code=$?
  trap - EXIT INT TERM
  [ -z "$launcher" ] || kill -INT "$launcher" 2>/dev/null || true
  if [ -e "$base/run/slurmctld.pid" ]; then
    timeout 10 scancel --me 2>/dev/null || true
    for _ in $(seq 20); do
      [ -n "$(timeout 10 squeue --noheader 2>/dev/null)" ] || break
      sleep 1
    done
  fi
  for daemon in slurmd.n1 slurmd.n2 slurmctld munged; do
    pid=$(cat "$base/run/$daemon.pid" 2>/dev/null) || continue
    kill "$pid" 2>/dev/null || continue
    for _ in $(seq 50); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.2
    done
  done
  if [ "$code" = 0 ]; then rm -rf "$base"; else echo "test-slurm: see $base" >&2; fi
  exit "$code"
}
trap finish EXIT INT TERM

cat >"$SLURM_CONF" <<CONF
ClusterName=ci
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=26817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$base/run/munge.sock,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$base/state
SlurmdSpoolDir=$base/spool/%n
SlurmctldPidFile=$base/run/slurmctld.pid
SlurmdPidFile=$base/run/slurmd.%n.pid
SlurmctldLogFile=$base/log/slurmctld.log
SlurmdLogFile=$base/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
ReturnToService=2
JobRequeue=1
RequeueExit=137
KillWait=5
SlurmdTimeout=15
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=26821 CPUs=2 CoresPerSocket=2 RealMemory=2000
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=26822 CPUs=2 CoresPerSocket=2 RealMemory=2000
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=60 State=UP
CONF
(umask 077 && head -c 128 /dev/urandom >"$base/munge.key")
munged --force --socket="$base/run/munge.sock" --key-file="$base/munge.key" \
  --pid-file="$base/run/munged.pid" --log-file="$base/log/munged.log" \
  --seed-file="$base/munge.seed" >/dev/null 2>&1 || cannot "munged does not start"
slurmctld || broken "slurmctld does not start"
slurmd -N n1 && slurmd -N n2 || broken "slurmd does not start"
for _ in $(seq 30); do
  [ "$(timeout 10 sinfo --noheader --states=idle --format=%D 2>/dev/null)" = 2 ] && break
  sleep 1
done
[ "$(sinfo --noheader --states=idle --format=%D)" = 2 ] || broken "the nodes are not ready: $(sinfo --noheader)"
echo "== $(sinfo --version): a controller and two nodes"

launched=$base/launched local=$base/local
"$python" -m experiments.ablate "${suite[@]}" --out "$launched" --launcher slurm \
  --seeds-per-job 3 --cpus 2 --memory 1 --minutes 60 >"$base/launched.txt" 2>"$base/launched.err" &
launcher=$!

# Jobs that are past their first checkpoint, as "number folder".
trained() {
  "$python" - "$launched" <<'PY'
import json, pathlib, sys
for file in sorted(pathlib.Path(sys.argv[1]).glob("jobs/*/ticket.json")):
    ticket = json.loads(file.read_text())
    run = pathlib.Path(sys.argv[1]) / "runs" / ticket["variant"] / f"seed{ticket['seeds'][0]}"
    saved = [step for step in (run / "checkpoints").glob("*") if step.name.isdigit()]
    if saved and not (run / "metrics.json").exists():
        print(ticket["id"], file.parent)
PY
}
hit=()
for signal in KILL USR2; do
  for _ in $(seq 600); do
    kill -0 "$launcher" 2>/dev/null || break
    while read -r number folder; do
      [[ " ${hit[*]-} " = *" $folder "* ]] && continue
      scancel --signal=$signal "$number.0" 2>/dev/null || continue
      echo "== job $number gets SIG$signal"
      hit+=("$folder")
      break 2
    done < <(trained)
    sleep 1
  done
done
[ ${#hit[@]} = 2 ] || { tail -5 "$base/launched.err" >&2; broken "no job could be killed on the way"; }

for _ in $(seq 1800); do
  kill -0 "$launcher" 2>/dev/null || break
  sleep 1
done
kill -0 "$launcher" 2>/dev/null && broken "the jobs do not come to an end: $(squeue --noheader)"
wait "$launcher" || { tail -5 "$base/launched.err" >&2; broken "the launcher failed"; }
launcher=
for folder in "${hit[@]}"; do
  grep -q '"starts": [2-9]' "$folder/status.json" || broken "$folder was not requeued"
done
tr '\r' '\n' <"$base/launched.err" | grep requeued | grep -v step

echo "== the same suite here"
"$python" -m experiments.ablate "${suite[@]}" --out "$local" >"$base/local.txt" 2>"$base/local.err" ||
  { tail -5 "$base/local.err" >&2; broken "the local run failed"; }
"$python" tests/support/same.py "$local" "$launched" || broken "the launched suite differs from the local one"
echo "test-slurm: passed"
