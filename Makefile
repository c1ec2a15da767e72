# make demo   a federation of devices on this machine, with a report in out/demo
# make test   the whole test suite
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
DEMO_ARGS ?=

.PHONY: help demo test lint bench clean

help:
	@grep -h '^# make' Makefile | sed 's/^# //'

# torch first and alone: its pin in constraints.txt keeps pip from fetching GPU libraries.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/python -m samples.demo $(DEMO_ARGS)

# make lint   ruff and mypy --strict
lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(INSTALLED)
	@command -v mosquitto >/dev/null || PATH="$$PATH:/usr/sbin" command -v mosquitto >/dev/null || \
		{ echo "The transport tests need Mosquitto: apt-get install mosquitto"; exit 1; }
	@command -v npm >/dev/null || \
		{ echo "The test of the protocol in another language needs Node: apt-get install nodejs npm"; exit 1; }
	@command -v strace >/dev/null || \
		{ echo "The test that nothing phones home needs strace: apt-get install strace"; exit 1; }
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# make bench  the quick form of every benchmark
bench: $(INSTALLED)
	@for file in $$(grep -l 'harness import .*arguments' benchmarks/*.py); do \
		name=$$(basename "$$file" .py); echo "$$name"; \
		$(BIN)/python -m "benchmarks.$$name" --quick || exit 1; \
	done

clean:
	rm -rf .venv out build *.egg-info
