# Two commands for a newcomer: `make demo` and `make test`. Each makes .venv first if need be.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo page test check style types imports format

# The clip plays as a camera would send it; without a prompt the demo ends by itself.
demo: $(READY)
	$(BIN)/python run_stream.py --source assets/demo.mp4 --on-full drop_oldest \
	  --ask "3s: What do you see?" --ask "7s: Is there a cat?" \
	  --ask "12s: Has the purple square gone?" --ask "21s: What came before the fish?" \
	  --ask "28.2s: What does the word say?" --ask "33s: Have you seen a fish?" \
	  --ask "37.5s: What was the last number?" \
	  --ask "43.5s: Which number do you see?" </dev/null

# The same clip in the browser, over and over, until Ctrl-C.
page: $(READY)
	$(BIN)/python run_stream.py --source assets/demo.mp4 --loop --on-full drop_oldest --ui

test: $(READY)
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

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
