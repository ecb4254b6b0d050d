# `make` alone lists the targets. What a target needs is installed on first use, with uv if it is
# on the PATH and with Python's own venv and pip if not.

PYTHON ?= python3
BIN = .venv/bin
PYTEST = $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo quick test check format picture clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build/.venv/cookiecutter ## generate a project with the default answers in build/ and start it
	@rm -rf build/tornado-service
	@build/.venv/bin/cookiecutter . --no-input --default-config --output-dir build
	@$(MAKE) --no-print-directory -C build/tornado-service VENV=../.venv ../.venv/serving
	@echo
	@echo "  Service:  http://127.0.0.1:$${APP_PORT:-8000}/greetings/Ada"
	@echo "  Health:   http://127.0.0.1:$${APP_ADMIN_PORT:-9000}/readyz"
	@echo "  Source:   build/tornado-service"
	@echo "  Stop:     Ctrl-C"
	@echo
	@cd build/tornado-service && exec ../.venv/bin/tornado-service

quick: check .venv/installed ## check that every combination of answers gives a clean project (a minute or two)
	@$(PYTEST) --numprocesses=auto --dist=worksteal tests/test_*.py

test: quick ## run all tests, the quick ones first
	@$(PYTEST) tests/running --ignore=tests/running/test_projects.py
	@$(PYTEST) --numprocesses=auto tests/running/test_projects.py

check: .venv/installed ## check the format and style of the template's own code
	@$(BIN)/ruff format --check hooks tests docs
	@$(BIN)/ruff check hooks tests docs

format: .venv/installed ## format the template's own code
	@$(BIN)/ruff format hooks tests docs
	@$(BIN)/ruff check --fix hooks tests docs

picture: .venv/picture ## draw docs/dashboard.png from real data (needs Prometheus)
	@$(BIN)/python -m docs.draw_dashboard

clean: ## delete everything that was installed or generated
	rm -rf .venv build .pytest_cache .ruff_cache

# For `make demo` alone, so that it installs no tools. The generated service is installed here too.
build/.venv/cookiecutter: pyproject.toml constraints.txt
	@echo "Installing cookiecutter into $(@D) ..."
	$(call install,cookiecutter)

# The tools for tests and checks.
.venv/installed: pyproject.toml constraints.txt
	@echo "Installing the tools for tests and checks into $(@D) ..."
	$(call install,--editable '.[dev]')

# Matplotlib, for the picture alone.
.venv/picture: .venv/installed
	@echo "Installing Matplotlib into $(@D) ..."
	$(call install,--editable '.[picture]')

# --no-compile, as uv does it: Python compiles the modules that it imports, which are fewer.
define install
	@if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python '>=3.11' $(@D) && \
		uv pip install --quiet --python $(@D) --constraint constraints.txt $(1); \
	else \
		{ $(@D)/bin/python -c "import pip" 2>/dev/null || $(PYTHON) -m venv $(@D); } && \
		$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
			--constraint constraints.txt $(1); \
	fi
	@touch $@
endef
