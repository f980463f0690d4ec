# Two commands for a newcomer: `make demo` and `make test`. Each makes .venv first if need be.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test check style types imports format

# The clip plays as a camera would send it; without a prompt the demo ends by itself.
demo: $(READY)
	$(BIN)/python run_stream.py --source assets/city.mp4 --loop --duration 20 --on-full drop_oldest \
	  --ask "What do you see?" --ask "8s: What just changed?" --ask "15s: What was there before?" \
	  </dev/null

test: $(READY)
	$(BIN)/python -m pytest

check: style types imports test

style: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(READY): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 demo")'
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $(READY)
