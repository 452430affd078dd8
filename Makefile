# `make run` starts the demo, `make test` runs everything CI runs.

# What BoringSSL and Pingora need to build.
BUILD_PACKAGES = cmake g++ git libclang-dev make
# What the tests use beside it: clients, a browser, a Prometheus, and what fetches helm and gRPC.
TEST_PACKAGES = chromium curl nghttp2-client openssl prometheus python3-pip redis-server unzip
PACKAGES = $(BUILD_PACKAGES)
CARGO ?= cargo

.PHONY: run test bench deps

run: deps
	$(CARGO) run -- demo

test: PACKAGES = $(BUILD_PACKAGES) $(TEST_PACKAGES)
test: deps target/tools/helm target/tools/grpc
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

# Debian has no helm; this Python package, fetched by its hash, carries the program (x86-64).
target/tools/helm: tests/deploy/helm.txt | deps
	@mkdir -p target/tools
	python3 -m pip download --quiet --no-deps --require-hashes --dest target/tools --requirement $<
	unzip -qop target/tools/aws_cdk*.whl '*.jsii.tgz' | tar -xzO package/lib/layer.zip >target/tools/layer.zip
	unzip -qop target/tools/layer.zip helm/helm >target/tools/helm.part
	rm target/tools/aws_cdk*.whl target/tools/layer.zip
	chmod +x target/tools/helm.part && mv target/tools/helm.part $@

# gRPC for Python, fetched by its hash, for the tests that talk to its own implementation.
target/tools/grpc: tests/gateway/tls/grpc.txt | deps
	@rm -rf $@ $@.part
	python3 -m pip install --quiet --no-deps --require-hashes --only-binary=:all: --target $@.part --requirement $<
	mv $@.part $@ && touch $@
