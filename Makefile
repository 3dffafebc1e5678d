# Two commands do everything on a machine with python3, python3-venv, make and git:
#   make demo    the server with three example apps, answers printed; ONCE=1 stops after the answers
#   make test    every test
# For work on Roost itself:
#   make check   format, lint, types, import contracts, fast tests: under a minute
#   make compat  the official clients' flows, pinned versions; make compat-latest takes whatever their registries have now
#   make soak    the long proof that accepted work is not lost: forty minutes, one table; ARGS=sweep is the failpoint sweep alone
#   make bench   what things cost; ONLY=echo measures one subject, ARGS=--quick has a short look

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check types fast-tests compat compat-latest soak bench format reference clean

demo: $(READY)
	$(BIN)/roost demo $(if $(filter-out 0,$(ONCE)),--once)

test: $(READY)
	$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports --no-logo
	$(MAKE) --no-print-directory --jobs 2 --output-sync=target types fast-tests

types: $(READY)
	$(BIN)/pyright

fast-tests: $(READY)
	$(BIN)/pytest -q tests/unit tests/arch

compat: $(READY)
	$(BIN)/pytest tests/compat $(ARGS)

compat-latest: $(READY)
	rm -f .compat/latest.txt
	COMPAT=latest $(BIN)/pytest tests/compat $(ARGS)

soak: $(READY)
	$(BIN)/python -m tests.soak $(ARGS)

bench: $(READY)
	$(BIN)/python -m benchmarks $(ONLY) $(ARGS)

format: $(READY)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# Pages of docs/reference that are made from code.
reference: $(READY)
	$(BIN)/python scripts/reference.py

clean:
	rm -rf $(VENV) .bootstrap .compat .hypothesis .import_linter_cache .pytest_cache .ruff_cache dist

$(READY): uv.lock pyproject.toml scripts/bootstrap.sh
	sh scripts/bootstrap.sh
