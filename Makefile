# Two commands: `make demo` shows what weevit does, `make test` runs everything. `make check` is style and types.
PYTHON ?= python3
VENV ?= .venv
# A local model folder for the demo; empty means the default model from the hub.
MODEL ?=
PYTEST_ARGS ?=

BIN := $(VENV)/bin
SOURCES := pyproject.toml src/weevit/_version.py

.PHONY: demo test check clean

demo: $(VENV)/.core
	@$(BIN)/weevit classify examples/photos --topk 3 $(if $(MODEL),--model '$(MODEL)') || { \
	  echo; \
	  echo "The demo needs a model, and there was none to be had: the reason stands above."; \
	  echo "  with a connection:      make demo                  (61 MB from the hub, once)"; \
	  echo "  without one:            make demo MODEL=path       (a folder with config.json and model.safetensors)"; \
	  exit 1; }

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.core: $(SOURCES)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -f $(VENV)/.dev || { echo "installing weevit into $(VENV) ..."; $(BIN)/python -m pip install --quiet -e .; }
	@touch $@

$(VENV)/.dev: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) .venv-core
