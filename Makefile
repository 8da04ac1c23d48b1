# Each target does all of its own set-up: Python 3.11 or newer, make, git and gcc are enough.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
WHEEL  := $(VENV)/dispatchd-wheel

# What the installed package was built from. A checksum rather than times: it also notices files that went away.
SOURCES   := $(shell find dispatchd pyproject.toml setup.py -type f ! -name '*.pyc' -exec cksum {} + | LC_ALL=C sort | cksum | cut -d' ' -f1)
COMPILER  := $(if $(DISPATCHD_PURE),,$(shell command -v cc || command -v gcc))
INSTALLED := $(VENV)/installed-$(if $(COMPILER),compiled,pure)-$(SOURCES)
TOOLS     := $(VENV)/tools-$(shell cksum < pyproject.toml | cut -d' ' -f1)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

RABBITMQ := /usr/lib/rabbitmq/bin/rabbitmq-server
GARAGEMQ := /usr/bin/garagemq
CHROMIUM := /usr/bin/chromium
PROMETHEUS := /usr/bin/promtool
NAGIOS   := /usr/bin/check_rabbitmq_overview
BUILDAH  := /usr/bin/buildah
SHOTS    := build/screenshots
# Tests through real sockets and in a real browser, about half of the time that all tests take.
OUTSIDE  := tests/broker tests/browser tests/compat tests/image
# RUNLEVEL keeps Debian from starting the broker that it installs: tests and benchmarks start one of their own.
DEBIAN   := command -v apt-get >/dev/null && { [ "$$(id -u)" = 0 ] || sudo -n true; } && \
	$$([ "$$(id -u)" = 0 ] || echo sudo -n) sh -c 'apt-get update -qq && \
		RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$$0"'

# uv chooses versions for all systems and versions of Python at once.
LOCK     := $(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-annotate --python-version 3.11 \
	--custom-compile-command "make lock"
LOCKED   := $(VENV)/locked
RELEASE  := $(VENV)/release-$(shell cksum < pyproject.toml | cut -d' ' -f1)

.PHONY: run test test-from-outside test-from-inside soak test-compat test-image check bench lock sbom clean

run: $(INSTALLED)  ## Start the broker with its data in ./data; more options in ARGS="--log-level debug"
	@exec $(BIN)/dispatchd --persist-dir ./data $(ARGS)

test: $(INSTALLED) $(TOOLS)  ## Run all tests on the compiled package, those that look into modules interpreted too; pictures in build/screenshots
	-@$(MAKE) --no-print-directory --keep-going $(CHROMIUM) $(PROMETHEUS) $(NAGIOS)
	@mkdir -p $(SHOTS)
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=line --keep-going test-from-outside test-from-inside

# One processor each: together they take half as long.
test-from-outside:
	DISPATCHD_SCREENSHOTS=$(abspath $(SHOTS)) PYTHONSAFEPATH=1 $(BIN)/pytest -o pythonpath=tests $(OUTSIDE)

test-from-inside:
	$(BIN)/pytest tests/unit tests/actors/test_every_handler.py
	PYTHONSAFEPATH=1 $(BIN)/pytest -o pythonpath=tests tests $(addprefix --ignore=,$(OUTSIDE))

soak: $(INSTALLED) $(TOOLS)  ## The long form of tests by chance, of crashes and of loads, and a soak of DISPATCHD_SOAK_MINUTES (30)
	DISPATCHD_SOAK=1 PYTHONSAFEPATH=1 $(BIN)/pytest -o pythonpath=tests tests/crash tests/fuzz tests/load tests/broker/test_faults.py

test-compat: $(INSTALLED) $(TOOLS) $(RABBITMQ)  ## Play scripts, Celery and clients' own tests here and on RabbitMQ; COMPAT_EXAMPLES random scripts
	RABBITMQ_SERVER=$(RABBITMQ) PYTHONSAFEPATH=1 $(BIN)/pytest -o pythonpath=tests tests/compat

test-image: $(INSTALLED) sbom $(BUILDAH)  ## Build the image with buildah on a base of Debian's and run it, as root; a few minutes
	DISPATCHD_IMAGE=1 PYTHONSAFEPATH=1 $(BIN)/pytest -o pythonpath=tests tests/image

check: $(INSTALLED) $(TOOLS)  ## Lint, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_architecture.py

bench: $(INSTALLED) $(TOOLS)  ## Compare with the brokers that Debian packages, 20 minutes; less with ARGS="--turns 1 --seconds 2"
	-@$(MAKE) --no-print-directory --keep-going $(RABBITMQ) $(GARAGEMQ)
	$(BIN)/python bench/compare.py --write bench/RESULTS.md $(ARGS)

lock: $(RELEASE)  ## Choose the newest versions of what the image is built of, and note their hashes
	$(LOCK) --output-file requirements.lock pyproject.toml
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'], sep='\n')" \
		| $(LOCK) --constraint requirements.lock --output-file requirements-build.lock -

sbom: $(RELEASE)  ## Write the image's bill of materials, build/dispatchd.cdx.json (CycloneDX), with all licences
	@mkdir -p build
	rm -rf $(LOCKED)
	$(PYTHON) -m venv --without-pip $(LOCKED)
	$(BIN)/pip --python $(LOCKED)/bin/python install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
		--output-file build/dispatchd.cdx.json $(LOCKED)/bin/python

clean:
	rm -rf $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RABBITMQ):
	@$(DEBIAN) rabbitmq-server || { echo "Debian's rabbitmq-server ($@) is missing: apt-get install rabbitmq-server" >&2; exit 1; }

$(GARAGEMQ):
	@$(DEBIAN) garagemq || { echo "Debian's garagemq ($@) is missing: apt-get install garagemq" >&2; exit 1; }

$(CHROMIUM):
	@$(DEBIAN) chromium || { echo "Debian's chromium ($@) is missing: the tests of the page are skipped" >&2; exit 1; }

$(PROMETHEUS):
	@$(DEBIAN) prometheus || { echo "Debian's prometheus ($@) is missing: some tests of metrics are skipped" >&2; exit 1; }

$(NAGIOS):
	@$(DEBIAN) nagios-plugins-rabbitmq || { echo "Debian's nagios-plugins-rabbitmq ($@) is missing: its tests are skipped" >&2; exit 1; }

$(BUILDAH):
	@$(DEBIAN) buildah debootstrap uidmap || { echo "Debian's buildah ($@) and debootstrap are missing" >&2; exit 1; }

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

# Not editable: a compiled module in the checkout would shadow its changed source.
$(INSTALLED): | $(BIN)/pip
	rm -rf $(WHEEL) $(VENV)/installed-* $(VENV)/build.log
	@echo "Building dispatchd; compiling takes about a minute"
	$(BIN)/pip wheel --quiet --log $(VENV)/build.log --no-deps --wheel-dir $(WHEEL) . || { tail -n 60 $(VENV)/build.log; exit 1; }
	@grep -o 'dispatchd setup: .*' $(VENV)/build.log >&2 || true
	$(BIN)/pip install --quiet $(WHEEL)/*.whl
	$(BIN)/pip install --quiet --force-reinstall --no-deps $(WHEEL)/*.whl
	$(BIN)/dispatchd --version
	@touch $@

$(TOOLS): | $(INSTALLED)
	rm -f $(VENV)/tools-*
	$(BIN)/pip install --quiet "$$(echo $(WHEEL)/*.whl)[test,dev]"
	@touch $@

$(RELEASE): | $(TOOLS)
	rm -f $(VENV)/release-*
	$(BIN)/pip install --quiet "$$(echo $(WHEEL)/*.whl)[test,dev,release]"
	@touch $@
