# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
# The commands of this project. Each says what it needs when something is missing.

.PHONY: help build demo test test-long bench module install clean

PREFIX ?= /usr/local

help: ## what there is
	@sed -n 's/^\([a-z-]*\): .*## /  make \1\t/p' $(MAKEFILE_LIST)

build: ## the tools, in target/release
	@tools/require cargo
	@tools/build

demo: ## the main job, on an image file, with texts of this machine
	@tools/require cargo
	@tools/demo

test: ## every test; ends with `N passed, N failed`
	@tools/test

test-long: ## the same with thousands of rounds where there were some, for hours
	@tools/test --long

bench: ## the figures of docs/performance.md, but for those of the kernel
	@tools/require cargo
	@tools/bench

module: ## the kernel module, kernel/vexfs.ko; KDIR=DIR for another kernel than the running one
	@kernel/module $(if $(KDIR),--kernel-dir "$(KDIR)")

install: build ## tools, man pages and completions, below $(PREFIX)
	@tools/install "$(DESTDIR)$(PREFIX)"

clean: ## removes what was built
	cargo clean
	rm -rf target kernel/target
