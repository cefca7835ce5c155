# What people and CI call. `make demo` and `make test` install what they need on a fresh Debian-like machine (root, Rust).

CARGO ?= cargo
# Scenarios start some twenty processes each and count lost packets: side by side they would starve each other.
SCENARIOS_AT_ONCE ?= 1

.PHONY: help setup build demo test lint crds proto clean

help: ## Say what there is.
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install the programs that demo and tests use (nft, tcpdump, curl, wireguard-go …).
	@./scripts/setup

build: setup ## Build all programs.
	$(CARGO) build --workspace --bins

demo: build ## Tell the story: two sites, one broker, a service by name, a gateway killed. KEEP=1 leaves it running.
	@KEEP=$(or $(KEEP),0) target/debug/hawser-demo

test: build ## Run all tests: unit, property, namespaces, scenarios.
	$(CARGO) test --workspace --exclude hawser-e2e
	$(CARGO) test -p hawser-e2e -- --test-threads=$(SCENARIOS_AT_ONCE)

lint: setup ## Formatting, lints, licences and duplicates of dependencies.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	./scripts/deny

crds: ## Generate deploy/crds/ from the Rust types.
	UPDATE=1 $(CARGO) test -p hawser-api crds

proto: ## Generate the broker's Rust interface from proto/.
	UPDATE=1 $(CARGO) test -p hawser-proto current

clean: ## Remove what was built.
	$(CARGO) clean
