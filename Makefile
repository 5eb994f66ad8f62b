# Every target sets up what it needs by itself, so that a fresh clone needs nothing but `make demo`.
VENV := $(or $(FAILSAFE_VENV),.venv)
BIN := $(VENV)/bin

.PHONY: help setup demo test test-long test-ray fuzz lint bench tables clean

help:
	@echo "make setup   .venv with all that the others need"
	@echo "make demo    60 verified failures of three suites, with their recoveries; a perturbed policy with and without the monitor; pages"
	@echo "make test    lint, then the whole test suite"
	@echo "make test-long  the tests that make test leaves out for their length"
	@echo "make fuzz    10,000 mutations of what others may write: datasets, checkpoints, settings, messages; for the night"
	@echo "make test-ray   the tests that start clusters of Ray"
	@echo "make lint    style, types and the order of the stages"
	@echo "make bench   the speeds and sizes that the README states, measured here; QUICK=1 to try it"
	@echo "make tables  the full study of the monitor, and its tables into docs/tables; hours"
	@echo "make clean   remove what the tools and the demo left; keeps $(VENV)"

setup:
	@bash scripts/setup.sh

demo: setup
	@bash scripts/demo.sh

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

# One thread a worker: torch would otherwise take every core for itself in each of them.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

# The marker "long": claims at full size, and scripts from end to end.
test-long: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m long

# Fifteen mutations of each kind of file and message are tried by make test, 280 of each here.
fuzz: setup
	OMP_NUM_THREADS=1 FAILSAFE_FUZZ=280 $(BIN)/pytest tests/hostile

test-ray: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -m ray

# QUICK=1 runs everything once, to see that it works, and writes to bench-out.
bench: setup
	$(BIN)/python -m benchmarks.run $(if $(QUICK),--quick)

tables: setup
	@bash scripts/study.sh

clean:
	rm -rf build dist out/demo out/demo-guarded .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name '.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
