# make book · make test · make quick · make lint. Each sets up .venv by itself, once; make clean
# removes it.
#
#   PROFILE=smoke          profile of the notebooks: smoke, laptop (default), colab, published
#                          (reads the records of book/records) or paper
#   PYTHON=python3.12      interpreter for .venv: 3.11 or newer
#   TORCH_INDEX=URL        index to take torch and torchvision from, such as
#                          https://download.pytorch.org/whl/cpu for the small CPU build

PYTHON ?= python3
PROFILE ?= laptop
TORCH_INDEX ?=
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
# A file's tests share what they make, so each file stays in one of two processes.
TEST := $(RUN) -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder

.PHONY: book test quick long colab-check gpu-check soak lint format repository clean

book: $(READY)
	$(RUN) -m book.builder build --profile $(PROFILE)

test: $(READY)
	$(TEST) -m "not long and not colab"

# make quick: the tests without the slow ones, for while you write.
quick: $(READY)
	$(TEST) -m "not slow and not long and not colab"

# make long: the tests that make test leaves out: killed processes, clusters, a record made again,
# and the book as make book PROFILE=smoke has built it, or as it is built here if it has not.
long: $(READY)
	$(TEST) -m long

# make colab-check: each notebook alone in an empty folder, the package from a git address, among
# the packages that Colab has.
colab-check: $(READY)
	$(TEST) tests/test_colab.py -m "colab or slow"

# make gpu-check: is a search on this GPU right, repeatable and quick? Its output can be sent as it is.
gpu-check: $(READY)
	$(RUN) benchmarks/gpu_check.py

# make soak: kills, flips, orphans and bad inputs, for half an hour; goes on where it was stopped.
soak: $(READY)
	$(RUN) -m soak

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m nbstripout --keep-id --verify notebooks/*.ipynb

format: $(READY)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .
	$(RUN) -m nbstripout --keep-id notebooks/*.ipynb

# make repository URL=https://github.com/you/fork: another address, wherever this one stands.
repository:
	@"$(PYTHON)" book/builder/repository.py

$(READY): pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is not there, or older than 3.11. Choose another: make PYTHON=python3.12"; \
	  exit 1; }
	@echo "Installing into $(VENV), once. This takes some minutes."
	"$(PYTHON)" -m venv $(VENV)
ifneq ($(TORCH_INDEX),)
	$(RUN) -m pip install --quiet --index-url "$(TORCH_INDEX)" torch torchvision
endif
	$(RUN) -m pip install --quiet --editable ".[book,dev]"
	@touch $(READY)

clean:
	rm -rf $(VENV) _build book/_executed notebooks/runs .pytest_cache .ruff_cache .hypothesis \
	  *.egg-info
