#!/usr/bin/env bash
# Conformance and leak tests and the quick suite on two further combinations of versions:
# Colab's pins (Python 3.13, jax 0.7.2, flax 0.11.2) and the newest (Python 3.12 or later).
# `tests/stacks.sh notebooks`: the notebooks alone, with Colab's pins.
set -euo pipefail
cd "$(dirname "$0")/.."

# A python of the wanted minor version: on the path, from pyenv, or from uv.
find_python() {
  local version=$1 candidate
  for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python; do
    if "$candidate" -c 'import sys' >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
  if command -v uv >/dev/null 2>&1; then
    uv python find "$version" 2>/dev/null && return
  fi
  echo "test-stacks needs Python $version: install it (pyenv install $version, or uv python install $version)" >&2
  exit 2
}

prepare() {
  local name=$1 version=$2
  shift 2
  local python
  environment=.venv-$name
  python=$(find_python "$version")
  echo "== $name: Python $version $*"
  if [ ! -e "$environment/.ready" ] || [ pyproject.toml -nt "$environment/.ready" ]; then
    if command -v uv >/dev/null 2>&1; then
      uv venv --quiet --allow-existing --python "$python" "$environment"
      uv pip install --quiet --python "$environment/bin/python" "$@" -e '.[easy-vqa,dev]'
    else
      "$python" -m venv "$environment"
      "$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$@" -e '.[easy-vqa,dev]'
    fi
    touch "$environment/.ready"
  fi
  "$environment/bin/python" -c 'import flax, jax; print("jax", jax.__version__, "flax", flax.__version__)'
}

run_stack() {
  prepare "$@"
  "$environment/bin/python" -m pytest -n 2 --dist loadfile -m "not slow" tests crossattn \
    --ignore tests/data --ignore tests/report --ignore tests/experiments --ignore tests/bench \
    --ignore tests/plan --ignore tests/launch --ignore tests/test_house.py
  local out
  out=$(mktemp -d)
  "$environment/bin/python" -m experiments.ablate fusion --quick --out "$out/fusion-quick"
  rm -rf "$out"
  "$environment/bin/python" -m pytest -q tests/notebooks
}

COLAB=(colab 3.13 jax==0.7.2 jaxlib==0.7.2 flax==0.11.2 optax==0.2.8 orbax-checkpoint==0.12.4
  grain==0.2.18 tensorflow-datasets==4.9.10 numpy==2.1.3)
if [ "${1:-}" = notebooks ]; then
  prepare "${COLAB[@]}"
  exec "$environment/bin/python" -m pytest -q tests/notebooks
fi
run_stack "${COLAB[@]}"
run_stack newest 3.12 --upgrade jax flax
echo "both stacks pass"
