# `make demo` and `make test` set up all they need; `make help` lists the other targets.

MODEL    := checkpoints/smollm2-135m-instruct
ENCODER  := checkpoints/all-minilm-l6-v2
# One package selection everywhere: `-p` would unify features differently and compile Burn again.
CARGO    := cargo
FLAGS    := --release --workspace --locked
UNDERTONE := target/release/undertone

# If LibTorch is prepared, the program is built with it and its tests run. CI prepares it.
LIBTORCH_FOLDER := $(CURDIR)/.cache/libtorch
ifneq ($(or $(CI),$(wildcard $(LIBTORCH_FOLDER))),)
SETUP    := libtorch
FEATURES := --features undertone/libtorch
export LIBTORCH := $(LIBTORCH_FOLDER)
# Only the program has an rpath; the tests of other crates need this path.
export LD_LIBRARY_PATH := $(LIBTORCH_FOLDER)/lib:$(LD_LIBRARY_PATH)
endif

.PHONY: help build model encoder demo test bench interop libtorch lint docs deny faults fuzz check-devices clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

build: $(SETUP) ## Build the program with the device flex, and with libtorch if it is prepared
	$(CARGO) build $(FLAGS) $(FEATURES)

model: $(MODEL)/config.json ## Fetch SmolLM2-135M-Instruct and import it to checkpoints/ (93 MB)

$(MODEL)/config.json:
	@$(MAKE) build
	gguf=$$(python3 scripts/fetch_model.py) && $(UNDERTONE) import "$$gguf" $(MODEL)

encoder: $(ENCODER) ## Fetch the sentence encoder all-MiniLM-L6-v2 to checkpoints/ (84 MB)

$(ENCODER):
	@python3 scripts/fetch_encoder.py

demo: build model ## Train with and without thoughts on synthetic data, and compare
	$(UNDERTONE) ablate experiments/demo.toml

libtorch: ## Fetch LibTorch 2.9.0 for the CPU to .cache/libtorch (911 MB)
	@python3 scripts/libtorch.py

test: model encoder ## Run every test whose needs are met
ifndef FEATURES
	@echo "skipped: the device libtorch is not tested; 'make libtorch' prepares it"
endif
	UNDERTONE_GGUF=$$(python3 scripts/fetch_model.py) $(CARGO) test $(FLAGS) $(FEATURES)

lint: ## Check the format and run clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(FLAGS) --all-targets -- -D warnings

bench: model ## Measure speed and memory against transformers + PEFT (an hour; 7 GB to install)
	$(CARGO) build $(FLAGS) $(FEATURES) --examples
	python3 scripts/bench/run.py $(BENCH)

interop: build model ## Compare models, exports, templates and runs with transformers, PEFT, llama.cpp and MLflow (10 minutes; 9 GB to install)
	python3 scripts/interop.py

docs: ## Build the API documentation; a warning is an error
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(FLAGS) --no-deps --document-private-items

# DOCS_RS stops CubeCL's build script from downloading LLVM, which only linking needs.
check-devices: ## Check that the GPU devices compile
	DOCS_RS=1 $(CARGO) check $(FLAGS) --features undertone/cuda,undertone/wgpu

deny: ## Check licences, advisories and sources of all dependencies, without a network
	scripts/deny.sh

faults: build model ## Try every fault hundreds of times (half an hour); writes the table of docs/reliability.md
	UNDERTONE_FAULTS=full UNDERTONE_FAULT_TABLE=$(CURDIR)/.cache/faults.md \
	    $(CARGO) test $(FLAGS) $(FEATURES) --test reliability -- --nocapture
	python3 scripts/insert_table.py docs/reliability.md faults .cache/faults.md

fuzz: build ## Fuzz what reads bytes from outside, ten minutes each (two hours; needs cargo-fuzz)
	scripts/fuzz.sh 600 > .cache/fuzz.md
	python3 scripts/insert_table.py docs/reliability.md fuzz .cache/fuzz.md

clean: ## Remove everything built and fetched, except checkpoints
	$(CARGO) clean
	rm -rf .cache
