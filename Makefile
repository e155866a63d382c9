# `make demo` shows what weevit does, `make test` and `make test-long` test it. `make check` is style and types.
PYTHON ?= python3
VENV ?= .venv
# A model for the demo's photos: a folder, an alias or a tag. Empty means digits alone, which need no hub.
MODEL ?=
PYTEST_ARGS ?=
# A process per core; the tests of a file stay together, since what they prepare they share.
WORKERS ?= -n auto --dist loadfile

BIN := $(VENV)/bin
WEEVIT := $(BIN)/weevit
say = @echo; echo "== $(1)"
SOURCES := pyproject.toml src/weevit/_version.py

.PHONY: demo test test-long check types clean

# Everything here comes with weevit: images, model, no hub, no PyTorch. Nothing is opened.
demo: $(VENV)/.core
	@rm -rf runs/demo
	$(call say,What is in an image?)
	$(WEEVIT) classify examples/digits/test/3/0175.png --model digits --topk 3
	$(call say,A classifier of your classes from a folder of images)
	$(WEEVIT) fit examples/digits --model digits -o runs/demo/mine
	$(call say,How good is it on images that it has never seen?)
	$(WEEVIT) eval runs/demo/mine examples/digits/test -o runs/demo/report
ifneq ($(MODEL),)
	$(call say,Photos)
	$(WEEVIT) classify examples/photos --topk 3 --model '$(MODEL)'
endif
	@echo
	@echo "The report, for a browser:   runs/demo/report/report.html"
	@echo "With a connection, the hub's models (pwee: 61 MB, once):   $(WEEVIT) classify examples/photos"
	@echo "All of them:   $(WEEVIT) models"

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(WORKERS) $(PYTEST_ARGS)

test-long:
	$(MAKE) test PYTEST_ARGS="-m long $(PYTEST_ARGS)"

check: types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

$(VENV)/.core: $(SOURCES)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -f $(VENV)/.dev || { echo "installing weevit into $(VENV) ..."; $(BIN)/python -m pip install --quiet -e ".[data]"; }
	@touch $@

$(VENV)/.dev: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) .venv-core .venv-lowest .venv-readers
