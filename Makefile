# make demo   a federation of devices on this machine, with a report in out/demo
# make test   the whole test suite
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
DEMO_ARGS ?=

.PHONY: help demo test lint test-install bench clean

help:
	@grep -h '^# make' Makefile | sed 's/^# //'

# torch first and alone: pip is done with what takes longest before it thinks about the rest.
$(INSTALLED): pyproject.toml constraints.txt
	@PYTHON=$(PYTHON) .ci/need venv
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,samples,benchmarks,dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/python -m samples.demo $(DEMO_ARGS)

# make lint   ruff and mypy --strict
lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(INSTALLED)
	@PYTHON=$(PYTHON) .ci/need mosquitto node strace systemd
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# make test-install   pip install impasto[...] as people type it, in fresh environments of every Python that is here
test-install:
	.ci/install

# make bench  the quick form of every benchmark
bench: $(INSTALLED)
	@for file in $$(grep -l 'harness import .*arguments' benchmarks/*.py); do \
		name=$$(basename "$$file" .py); echo "$$name"; \
		$(BIN)/python -m "benchmarks.$$name" --quick || exit 1; \
	done

clean:
	rm -rf .venv out build *.egg-info
