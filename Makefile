# `make run` starts the demo, `make test` runs everything CI runs.

# What BoringSSL and Pingora need to build, and the clients of the tests.
PACKAGES = cmake g++ libclang-dev make curl openssl
CARGO ?= cargo

.PHONY: run test bench deps

run: deps
	$(CARGO) run -- demo

test: deps
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked

bench: deps
	$(CARGO) bench --locked

# Installs the system packages that are missing, or names them where that is not allowed.
deps:
	@command -v $(CARGO) >/dev/null || { echo "Rust is missing: install it from your distribution or with rustup"; exit 1; }
	@missing=""; \
	for package in $(PACKAGES); do \
		dpkg -s $$package >/dev/null 2>&1 || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ] && command -v dpkg >/dev/null; then \
		if [ "$$(id -u)" = 0 ]; then \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
		else \
			echo "These Debian packages are missing; install them and try again:"; \
			echo "  sudo apt-get install$$missing"; exit 1; \
		fi; \
	fi
