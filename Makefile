# `make demo` and `make test` do all their set-up themselves; `make help` lists the rest.

MODEL    := checkpoints/smollm2-135m-instruct
ENCODER  := checkpoints/all-minilm-l6-v2
# One package selection everywhere: `-p` would unify features differently and compile Burn again.
CARGO    := cargo
FLAGS    := --release --workspace --locked
UNDERTONE := target/release/undertone

# Where LibTorch is prepared, the program is built with it and its tests run; CI prepares it.
LIBTORCH_FOLDER := $(CURDIR)/.cache/libtorch
ifneq ($(or $(CI),$(wildcard $(LIBTORCH_FOLDER))),)
SETUP    := libtorch
FEATURES := --features undertone/libtorch
export LIBTORCH := $(LIBTORCH_FOLDER)
# Tests of other crates than the program's have no rpath.
export LD_LIBRARY_PATH := $(LIBTORCH_FOLDER)/lib:$(LD_LIBRARY_PATH)
endif

.PHONY: help build model encoder demo test bench libtorch lint docs deny check-devices clean

help: ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

build: $(SETUP) ## The program, with the device flex, and libtorch where it is prepared
	$(CARGO) build $(FLAGS) $(FEATURES)

model: $(MODEL)/config.json ## SmolLM2-135M-Instruct, imported to checkpoints/

$(MODEL)/config.json:
	@$(MAKE) build
	gguf=$$(python3 scripts/fetch_model.py) && $(UNDERTONE) import "$$gguf" $(MODEL)

encoder: $(ENCODER) ## The sentence encoder all-MiniLM-L6-v2, to checkpoints/ (84 MB)

$(ENCODER):
	@python3 scripts/fetch_encoder.py

demo: build model ## Train with and without thoughts on made-up data, and compare
	$(UNDERTONE) ablate experiments/demo.toml

libtorch: ## LibTorch 2.9.0 for the CPU, to .cache/libtorch (911 MB to download)
	@python3 scripts/libtorch.py

test: model encoder ## Every test there is
ifndef FEATURES
	@echo "skipped: the device libtorch is not tested; 'make libtorch' prepares it"
endif
	UNDERTONE_GGUF=$$(python3 scripts/fetch_model.py) $(CARGO) test $(FLAGS) $(FEATURES)

lint: ## Formatting and clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(FLAGS) --all-targets -- -D warnings

bench: model ## Speed and memory against transformers + PEFT, in turns (an hour; 7 GB to install)
	$(CARGO) build $(FLAGS) $(FEATURES) --examples
	python3 scripts/bench/run.py $(BENCH)

docs: ## The API documentation, without warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(FLAGS) --no-deps --document-private-items

# DOCS_RS keeps CubeCL's build script from downloading LLVM, which only linking would need.
check-devices: ## Whether the GPU devices still compile
	DOCS_RS=1 $(CARGO) check $(FLAGS) --features undertone/cuda,undertone/wgpu

deny: ## Licences and advisories of all dependencies (needs cargo-deny)
	cargo deny check

clean: ## Everything built and fetched; checkpoints stay
	$(CARGO) clean
	rm -rf .cache
