# Every target sets itself up in .venv on a fresh machine.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check table clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY)  ## the main job on the embedded data, about two minutes on two cores
	$(BIN)/python -m mmbench run --methods gemmnet,shaspec --dataset synthetic --recipe smoke

test: $(READY)  ## every test that this machine can run
	$(BIN)/python -m pytest -n auto --dist loadfile -q

check: $(READY)  ## style, types, import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

table: $(READY)  ## the table of README, about 40 minutes on two cores; finished cells are not run again
	$(BIN)/python -m mmbench run --methods gemmnet,shaspec,modality_dropout --dataset synthetic --recipe laptop --seeds 0,1,2 --device cpu --results benchmarks/results/laptop
	$(BIN)/python -m mmbench report benchmarks/results/laptop --format markdown

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
