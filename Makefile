# Every target sets itself up in .venv on a fresh machine.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check table gpu clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY)  ## the main job on the embedded data, about two minutes on two cores
	$(BIN)/python -m mmbench run --methods gemmnet,shaspec --dataset synthetic --recipe smoke

test: $(READY)  ## every test that this machine can run
	$(BIN)/python -m pytest -n auto --dist loadgroup --no-loadscope-reorder -q
	TRITON_INTERPRET=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -q tests/kernels/interpreted

check: $(READY)  ## style, types, import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One thread: the digits of a training depend on how many share its sums. Cells that are done are not run again.
table: export OMP_NUM_THREADS := 1
table: $(READY)  ## the tables of README and benchmarks/README.md, about two and a half hours of one core
	$(BIN)/python -m mmbench run --methods all --dataset synthetic --recipe laptop --seeds 0,1,2 --device cpu --results benchmarks/results/laptop
	$(BIN)/python -m mmbench report benchmarks/results/laptop --format markdown
	$(BIN)/python -m mmbench report benchmarks/results/laptop --metric mf1 --format markdown
	$(BIN)/python -m mmbench run --methods modality_dropout,expert_switch,shaspec,gemmnet,mmformer --dataset synthetic --recipe laptop --set training.steps=960 --set training.validations=4 --device cpu --results benchmarks/results/laptop_960_steps
	$(BIN)/python -m mmbench report benchmarks/results/laptop_960_steps --format markdown

# A step that fails does not keep the others from the report, which tells it and ends with 1 then.
GPU := build/gpu
gpu: $(READY)  ## tests, times and a profile on a CUDA device, all in gpu_report.json; compiling takes most of it
	$(BIN)/python benchmarks/gpu_report.py --check
	rm -rf $(GPU) && mkdir -p $(GPU)
	-$(BIN)/python -m pytest -m gpu -q --junitxml $(GPU)/tests.xml
	-$(BIN)/python -m pytest benchmarks/bench_operators.py --benchmark-only -q --operators $(GPU)/operators.json
	-$(BIN)/python -m pytest benchmarks/bench_methods.py --benchmark-only -q --benchmark-json $(GPU)/methods.json
	-$(BIN)/python -m mmbench profile --methods gemmnet --dataset synthetic --device cuda --json $(GPU)/profile.json
	$(BIN)/python benchmarks/gpu_report.py $(GPU) --output gpu_report.json

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
