# `make` alone lists the targets. Everything they need is installed into .venv/ on first use,
# with uv if it is there and with Python's own venv and pip if not.

PYTHON ?= python3
BIN = .venv/bin
PYTEST = $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo test quick check format picture clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/installed ## generate a project with the default answers into build/ and serve it
	@rm -rf build
	@$(BIN)/cookiecutter . --no-input --default-config --output-dir build
	@$(MAKE) --no-print-directory -C build/tornado-service .venv/installed
	@echo
	@echo "  Service:  http://127.0.0.1:$${APP_PORT:-8000}/greetings/Ada"
	@echo "  Health:   http://127.0.0.1:$${APP_ADMIN_PORT:-9000}/readyz"
	@echo "  Source:   build/tornado-service"
	@echo "  Stop:     Ctrl-C"
	@echo
	@cd build/tornado-service && exec .venv/bin/tornado-service

test: quick ## run every test, the quick ones first
	@$(PYTEST) tests/running --ignore=tests/running/test_projects.py
	@$(PYTEST) --numprocesses=auto tests/running/test_projects.py

quick: check .venv/installed ## whether the template still renders and lints in every combination
	@$(PYTEST) --numprocesses=auto tests/test_*.py

check: .venv/installed ## check format and style of the template's own code
	@$(BIN)/ruff format --check hooks tests docs
	@$(BIN)/ruff check hooks tests docs

format: .venv/installed ## format the template's own code
	@$(BIN)/ruff format hooks tests docs
	@$(BIN)/ruff check --fix hooks tests docs

picture: .venv/installed ## draw the dashboard of a generated project from real data, into docs/
	@$(BIN)/python -m docs.draw_dashboard

clean: ## remove everything that is not source
	rm -rf .venv build .pytest_cache .ruff_cache

.venv/installed: pyproject.toml constraints.txt
	@echo "Installing into .venv ..."
	@if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python '>=3.11' .venv && \
		uv pip install --quiet --python .venv -c constraints.txt -r pyproject.toml --extra dev; \
	else \
		$(PYTHON) -m venv .venv && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'; \
	fi
	@touch $@
