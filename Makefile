# `make` alone lists the targets. What a target needs is installed on first use, with uv if it is
# on the PATH and with Python's own venv and pip if not.

PYTHON ?= python3
BIN = .venv/bin
# Where cookiecutter is installed for `make demo`, and for `make update` of a project.
TOOLS ?= build/.venv
RUNTIME = {{cookiecutter.project_slug}}/src/{{cookiecutter.package_name}}/runtime
PROJECT_TOOLS = {{cookiecutter.project_slug}}/tools
# With the configuration named, or ruff would read the one of the project, which is a template.
PYTHON_CODE = --config pyproject.toml benchmarks hooks maintenance tests docs updating '$(RUNTIME)' \
	'$(PROJECT_TOOLS)'
# Byte code beside the sources would be copied into projects.
quick test check format runtime picture bench bench-check: export PYTHONPYCACHEPREFIX = $(CURDIR)/.venv/pycache
# Without any, each of the many processes that the tests start would compile all that it imports.
quick test check format runtime picture bench bench-check: export PYTHONDONTWRITEBYTECODE =
PYTEST = $(BIN)/python -m pytest
CHOSEN = not exhaustive

.DEFAULT_GOAL := help
.PHONY: help demo quick test check format runtime picture bench bench-check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(TOOLS)/cookiecutter ## generate a project with the default answers in build/ and start it
	@rm -rf build/tornado-service
	@$(TOOLS)/bin/python -m cookiecutter . --no-input --default-config --output-dir build >/dev/null
	@$(MAKE) --no-print-directory -C build/tornado-service VENV=../.venv ../.venv/serving
	@echo
	@echo "  Service:  http://127.0.0.1:$${APP_PORT:-8000}/greetings/Ada"
	@echo "  Health:   http://127.0.0.1:$${APP_ADMIN_PORT:-9000}/readyz"
	@echo "  Source:   build/tornado-service"
	@echo "  Stop:     Ctrl-C"
	@echo
	@cd build/tornado-service && exec ../.venv/bin/tornado-service

quick: check .venv/installed ## check that every combination of answers gives a clean project (a minute or two)
	@$(PYTEST) --numprocesses=auto --dist=worksteal -m 'not slow and ($(CHOSEN))' tests/test_*.py

test: quick ## run the tests, the quick ones first
	@# Three, for most of them wait now and then, and none measures the machine.
	@$(PYTEST) --numprocesses=3 -m '$(CHOSEN)' $(COVERAGE) tests/runtime
	@$(PYTEST) --numprocesses=2 -m 'slow and ($(CHOSEN))' tests/running tests/updating tests/test_*.py

.PHONY: test-all
test-all: CHOSEN = exhaustive or not exhaustive
# Here alone: to measure it takes longer than the tests of the runtime themselves.
test-all: COVERAGE = --cov --cov-report=term
test-all: test ## run all tests, also those that take long, and check what those of the runtime cover
	@for room in '$(RUNTIME)'/*/__init__.py; do \
		room=$$(basename "$$(dirname "$$room")"); \
		$(BIN)/coverage report --include="*/runtime/$$room/*" >/dev/null || \
			{ echo "The tests cover too little of the room $$room."; exit 1; }; \
	done

check: .venv/installed ## check format, style, types and imports of the template's own code and the runtime
	@$(BIN)/ruff format --check $(PYTHON_CODE)
	@$(BIN)/ruff check $(PYTHON_CODE)
	@$(BIN)/mypy
	@cd '$(RUNTIME)/..' && $(CURDIR)/$(BIN)/lint-imports --no-cache --no-logo $(CURDIR)/pyproject.toml

format: .venv/installed ## format the template's own code and the runtime
	@$(BIN)/ruff format $(PYTHON_CODE)
	@$(BIN)/ruff check --fix $(PYTHON_CODE)

runtime: .venv/installed ## renew the checksums of the runtime and the picture of its rooms
	@$(BIN)/python -m docs.draw_rooms
	@cd '$(RUNTIME)' && git ls-files --cached --others --exclude-standard . | grep -v '^SHA256SUMS$$' \
		| LC_ALL=C sort | xargs sha256sum > SHA256SUMS

picture: .venv/picture ## draw the pictures of the README from real data (needs Prometheus and Chromium)
	@$(BIN)/python -m docs.draw_terminal
	@$(BIN)/python -m docs.draw_live
	@$(BIN)/python -m docs.draw_dashboard

bench: .venv/picture ## compare with other servers (needs wrk, Nginx; NAME=... for one row, QUICK=1 to try)
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(NAME)

bench-check: .venv/installed ## check that a request takes no more instructions than in the last release (needs Valgrind)
	@$(BIN)/python -m benchmarks.regression $(if $(RENEW),--renew)

.PHONY: release
release: .venv/installed ## check, write the version, close the changelog, commit and tag (VERSION=0.2.0; DRY_RUN=1 to see)
	@$(BIN)/python -m maintenance.release $(if $(DRY_RUN),--dry-run) '$(VERSION)'

.PHONY: lock
lock: .venv/installed ## renew the exact versions of all dependencies, within the ranges of both pyproject.toml
	@$(BIN)/python -m maintenance.lock

.PHONY: newest
newest: export PYTHONPYCACHEPREFIX = $(CURDIR)/.venv/pycache
newest: .venv/installed ## test with the newest dependencies that are allowed (PYTHON=python3.14 for that Python)
	@$(BIN)/python -m maintenance.newest '$(PYTHON)'

# The service that tells of vulnerabilities.
OSV_URL ?= https://api.osv.dev/v1/query

.PHONY: audit
audit: .venv/installed ## look for known vulnerabilities in the dependencies of the template and of projects
	@$(BIN)/uv tool run --quiet 'pip-audit>=2.10,<3' --requirement .venv/constraints.txt --no-deps --disable-pip \
		--vulnerability-service osv --osv-url $(OSV_URL) --progress-spinner off --strict

clean: ## delete everything that was installed or generated
	rm -rf .venv build .pytest_cache .ruff_cache

# `make update` of a project calls this, in a clone of the template.
.PHONY: update
update: $(TOOLS)/cookiecutter
	@$(TOOLS)/bin/python -m updating

# By itself, so that `make demo` installs no tools. The generated service is installed here, too.
$(TOOLS)/cookiecutter: pyproject.toml constraints.txt
	@echo "Installing cookiecutter ..."
	$(call install,cookiecutter)

# The tools for tests and checks.
.venv/installed: pyproject.toml constraints.txt
	@echo "Installing the tools for tests and checks into $(@D) ..."
	$(call install,--editable '.[dev]')

# Matplotlib, for the picture alone.
.venv/picture: .venv/installed
	@echo "Installing Matplotlib into $(@D) ..."
	$(call install,--editable '.[picture]')

# Fails with one line if Python is too old; uv finds one that is not.
CHECK_VERSION = import sys; v = sys.version_info; v < (3, 11) and sys.exit( \
	"$(PYTHON) is not Python 3.11 or later, but Python %d.%d. " % v[:2] + \
	"Name another one: make $(MAKECMDGOALS) PYTHON=python3.11")

# --no-compile, as uv does it: Python compiles the modules that it imports, which are fewer.
# The versions of both constraints.txt hold, without the conditions of the project's.
define install
	@mkdir -p $(@D)
	@grep -hv '{%' constraints.txt '{{cookiecutter.project_slug}}/constraints.txt' > $(@D)/constraints.txt
	@if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python '>=3.11' $(@D) && \
		uv pip install --quiet --python $(@D) --constraint $(@D)/constraints.txt $(1); \
	else \
		{ $(@D)/bin/python -c "" 2>/dev/null || \
			{ $(PYTHON) -c '$(CHECK_VERSION)' && $(PYTHON) -m venv --without-pip $(@D); }; } && \
		$(@D)/bin/python '$(PROJECT_TOOLS)/get_pip.py' >/dev/null && \
		$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
			--constraint $(@D)/constraints.txt $(1); \
	fi
	@touch $@
endef
