# SPDX-License-Identifier: Apache-2.0
# Habits for those who clone and type make. The build itself is meson's (meson.build).
.PHONY: all deps demo test san bench fuzz lint install clean

all: build/build.ninja
	ninja -C build

build/build.ninja: | deps
	meson setup build --buildtype=release -Ddebug=true

deps:
	@tools/deps build

demo: all
	@tools/deps demo
	examples/demo

test:
	@tools/deps build test
	tests/run

san:
	@tools/deps build test
	tests/run --only san

bench: all
	@tools/deps bench
	bench/run.py --quick

fuzz:
	@tools/deps build test
	tools/fuzz

lint:
	@tools/deps lint
	tools/lint

install: all
	meson install -C build

clean:
	rm -rf build build-san build-fault build-clang build-fuzz
