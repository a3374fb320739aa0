# `make demo` and `make test` do all their set-up themselves; `make help` lists the rest.

MODEL    := checkpoints/smollm2-135m-instruct
# One package selection everywhere: `-p` would unify features differently and compile Burn again.
CARGO    := cargo
FLAGS    := --release --workspace --locked
UNDERTONE := target/release/undertone

# Tests cover LibTorch where it is prepared; CI prepares it.
LIBTORCH_FOLDER := $(CURDIR)/.cache/libtorch
ifneq ($(or $(CI),$(wildcard $(LIBTORCH_FOLDER))),)
TEST_SETUP    := libtorch
TEST_FEATURES := --features undertone/libtorch
TEST_ENV      := LIBTORCH=$(LIBTORCH_FOLDER) LD_LIBRARY_PATH=$(LIBTORCH_FOLDER)/lib
endif

.PHONY: help build model demo test libtorch lint docs deny check-devices clean

help: ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

build: ## The program, with the device flex
	$(CARGO) build $(FLAGS)

model: $(MODEL)/config.json ## SmolLM2-135M-Instruct, imported to checkpoints/

$(MODEL)/config.json: | build
	gguf=$$(python3 scripts/fetch_model.py) && $(UNDERTONE) import "$$gguf" $(MODEL)

demo: build model ## Train with and without thoughts on made-up data, and compare
	$(UNDERTONE) ablate experiments/demo.toml

libtorch: ## LibTorch 2.9.0 for the CPU, to .cache/libtorch (911 MB to download)
	@python3 scripts/libtorch.py

test: model $(TEST_SETUP) ## Every test there is
ifndef TEST_FEATURES
	@echo "skipped: the device libtorch is not tested; 'make libtorch' prepares it"
endif
	$(TEST_ENV) $(CARGO) test $(FLAGS) $(TEST_FEATURES)

lint: ## Formatting and clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(FLAGS) --all-targets -- -D warnings

docs: ## The API documentation, without warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(FLAGS) --no-deps --document-private-items

check-devices: ## Whether the GPU devices still compile
	$(CARGO) check $(FLAGS) --features undertone/cuda,undertone/wgpu

deny: ## Licences and advisories of all dependencies (needs cargo-deny)
	cargo deny check

clean: ## Everything built and fetched; checkpoints stay
	$(CARGO) clean
	rm -rf .cache
