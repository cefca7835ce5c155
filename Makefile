# What people and CI call. `make demo` and `make test` install what they need on a fresh Debian-like machine (root, Rust).

CARGO ?= cargo

.PHONY: help setup build demo test lint bench drills crds proto clean

help: ## Say what there is.
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install the programs that demo and tests use (nft, tcpdump, curl, wireguard-go …).
	@./scripts/setup

build: setup ## Build all programs.
	$(CARGO) build --workspace --bins

demo: build ## Tell the story: two sites, one broker, a service by name, a gateway killed. KEEP=1 leaves it running.
	@KEEP=$(or $(KEEP),0) target/debug/hawser-demo

test: build ## Run all tests: unit, property, namespaces, scenarios.
	$(CARGO) test --workspace --no-fail-fast

lint: setup ## Formatting, lints, licences and duplicates of dependencies.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	./scripts/deny

bench: ## Measure the data plane beside wireguard-go, gotatun, boringtun-cli and the wire: 48 minutes on a quiet machine. BENCH="--quick" shows that it works.
	./scripts/bench-setup
	$(CARGO) build --release -p hawser-bench -p hawser-gateway -p hawser-route-agent
	target/release/hawser-bench $(BENCH)

drills: setup ## Cause every fault and measure what it costs users: 40 minutes on a quiet machine. DRILLS="--runs 1 --minutes 0.2" shows that it works.
	$(CARGO) build --release -p hawser-drills -p hawser-gateway -p hawser-agent -p hawser-broker -p hawser-route-agent -p hawser-cli
	target/release/hawser-drills $(DRILLS)

crds: ## Generate deploy/crds/ from the Rust types.
	UPDATE=1 $(CARGO) test -p hawser-api crds

proto: ## Generate the broker's Rust interface from proto/.
	UPDATE=1 $(CARGO) test -p hawser-proto current

clean: ## Remove what was built.
	$(CARGO) clean
