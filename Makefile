# `make demo` and `make test` need Python 3.11 or newer, make and git; everything else is installed into .venv from the lock.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
# The stamps carry a checksum of what they stand for, so a new lock installs once and an old one never again.
LOCK := .venv/.lock-$(firstword $(shell cksum requirements.lock))
PROJECT := .venv/.project-$(firstword $(shell cat requirements.lock pyproject.toml | cksum))

.PHONY: help install demo test slow coverage zoo lint format hooks docs wheel lock clean

help: ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

install: $(PROJECT) ## make .venv with the locked dependencies and this project in it

demo: $(PROJECT) ## draw pictures with the shipped model
	@$(BIN)/weft demo

test: lint ## lint, then the tests that take seconds
	@$(BIN)/pytest -m "not slow" --numprocesses auto --maxprocesses 4 --dist worksteal

slow: $(PROJECT) ## the tests that take minutes
	@$(BIN)/pytest -m slow

ZOO := $(BIN)/python -m weft.zoo.stickers.training
zoo: $(PROJECT) ## train the next tiny model, going on where it is (zoo/stickers/README.md: 17 hours of one core)
	@for stage in unpack vae tokenizer pictures clip image_tower latents unet export curves pack; do \
		$(ZOO) $$stage --recipe zoo/training/recipes/stickers.yaml --out runs/stickers || exit 1; done

coverage: $(PROJECT) ## the tests that take seconds, and which lines they run (htmlcov/index.html)
	@$(BIN)/pytest -m "not slow" --numprocesses auto --maxprocesses 4 --dist worksteal \
		--cov --cov-report term:skip-covered --cov-report html

lint: $(PROJECT) ## ruff, mypy and the layers of imports
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@$(BIN)/mypy
	@cd tests && ../$(BIN)/mypy --cache-dir ../.mypy_cache/tests
	@cd benchmarks && MYPYPATH=robustness ../$(BIN)/mypy --config-file ../tests/mypy.ini --cache-dir ../.mypy_cache/benchmarks
	@$(BIN)/lint-imports --no-logo > .venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }

format: $(PROJECT) ## sort imports and format
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format --quiet .

hooks: $(PROJECT) ## check what is committed before it is: ruff, typos, ends of files
	@$(BIN)/pre-commit install

docs: $(PROJECT) ## build the site, docs/site/index.html; every warning is an error
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/site

wheel: $(PROJECT) ## build dist/weft-*.whl
	@$(BIN)/python -m hatchling build -t wheel -d dist

lock: | .venv/bin/pip ## write requirements.lock anew from pyproject.toml (UPGRADE=1: with the newest versions)
	@test -x $(BIN)/uv || $(BIN)/pip install --quiet uv
	@$(BIN)/uv pip compile pyproject.toml --quiet --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-annotate --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) \
		--output-file requirements.lock

clean: ## remove caches and build outputs (.venv and runs/ stay)
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage htmlcov dist build
	@find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/pip:
	@test -n "$(PYTHON)" || { echo "weft needs Python 3.11 or newer, and none was found; name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv .venv

$(LOCK): | .venv/bin/pip
	@echo "Installing the locked dependencies into .venv (once, a few GB; some minutes) ..."
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@rm -f .venv/.lock-* && touch $@

$(PROJECT): | $(LOCK)
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@rm -f .venv/.project-* && touch $@
