# SPDX-License-Identifier: GPL-2.0
#
# Everything that is built goes below $(BUILD); the module is built in a copy
# of its sources there, one for each kernel, because kbuild puts objects next
# to sources and those of two kernels must not mix.

BUILD ?= $(CURDIR)/build

# All processors, unless told otherwise.
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif

# Which kernel to build for, the first of these that is given:
#   KDIR=   its build directory
#   KVER=   its release, with headers below /lib/modules
#   KERNEL= 6.1, 6.12, debug or kcsan, as tools/vm/run calls them
# and otherwise the newest one whose headers are installed.
ifdef KDIR
else ifdef KVER
KDIR := /lib/modules/$(KVER)/build
else ifdef KERNEL
KDIR := $(shell tools/vm/run -k $(KERNEL) --print-kdir)
else
KDIR := $(shell ls -d /lib/modules/*/build 2>/dev/null | sort -V | tail -n 1)
endif

# What the kernel calls itself; config/kernel.release is not that in Debian's 6.1.
KREL = $(shell sed -n 's/.*UTS_RELEASE "\(.*\)"/\1/p' \
	$(KDIR)/include/generated/utsrelease.h 2>/dev/null)
TREE = $(BUILD)/$(KREL)
KBUILD = $(MAKE) -C $(KDIR) M=$(TREE)

# What kbuild makes of the copy is not in the sources, and has to stay.
SYNC = rsync -rltp --delete --prune-empty-dirs --exclude='*.mod.c' --include='*/' \
	--include='*.[ch]' --include=Kbuild --exclude='*' Kbuild kmod uapi $(TREE)/

.PHONY: all
all: modules userspace	## build qblk.ko, libqblk and qblkctl (default)

.PHONY: modules
modules:		## build qblk.ko into build/RELEASE/
	@test -n "$(KREL)" || \
		{ echo "No kernel headers in '$(KDIR)': run tools/deps, or set KDIR or KVER."; exit 1; } >&2
	@mkdir -p $(TREE)
	+@flock $(TREE)/.lock sh -ec "$(SYNC); $(KBUILD) modules"

.PHONY: userspace
userspace:		## build libqblk and qblkctl into build/userspace/
	+@$(MAKE) --no-print-directory -C userspace O=$(BUILD)/userspace all

.PHONY: demo
demo:			## show the main job in a virtual machine, from nothing
	@tools/deps
	@tools/demo

.PHONY: check
check:			## run every check: lint, KUnit, selftests on all kernels
	@tools/deps
	@tools/check

.PHONY: check-full
check-full:		## the same with every selftest on every kernel
	@tools/deps
	@QBLK_CHECK_FULL=1 tools/check

.PHONY: check-lint
check-lint:		## only the static checks
	@tools/deps
	@tools/check lint

.PHONY: check-kunit
check-kunit:		## only the KUnit suites, on the debug kernel
	@tools/deps
	@tools/check kunit

.PHONY: check-selftests
check-selftests:	## only the selftests, on all kernels
	@tools/deps
	@tools/check selftests

.PHONY: crash
crash:			## cut the power at 8000 points of write logs, kill 50 machines
	@tools/deps
	@tools/testing/crash/run

.PHONY: races
races:			## look for data races with KCSAN, on a kernel built for that
	@tools/deps
	@tools/check races

.PHONY: fuzz
fuzz:			## fuzz each parser for 10 minutes, attach 20000 mutated images
	@tools/deps
	@tools/testing/fuzz/codec -t 600
	@tools/testing/fuzz/images

.PHONY: bench
bench:			## measure qblk and what people use instead, side by side
	@tools/deps
	@$(MAKE) -s --no-print-directory modules userspace KERNEL=6.12
	@tools/bench/run

.PHONY: regen
regen:			## regenerate what comes from the netlink specification
	@tools/deps
	@tools/regen

# DESTDIR and PREFIX are passed on to userspace/Makefile.  depmod is run here
# because kbuild does so only next to a System.map, which Debian has elsewhere.
.PHONY: install
install: all		## install module, qblkctl, libqblk, header, udev rules, manual
	+@flock $(TREE)/.lock $(KBUILD) INSTALL_MOD_DIR=extra INSTALL_MOD_PATH=$(DESTDIR) \
		$(if $(DESTDIR),DEPMOD=true) modules_install
	$(if $(DESTDIR),,depmod $(KREL))
	+@$(MAKE) --no-print-directory -C userspace O=$(BUILD)/userspace install

.PHONY: uninstall
uninstall:		## remove what install put there
	rm -f $(DESTDIR)/lib/modules/$(KREL)/extra/qblk.ko*
	$(if $(DESTDIR),,depmod $(KREL))
	+@$(MAKE) --no-print-directory -C userspace O=$(BUILD)/userspace uninstall

.PHONY: clean
clean:			## remove build/ (not the cache of virtual machines)
	rm -rf $(BUILD)

.PHONY: help
help:			## list the targets
	@echo "Targets:"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1@\2/p' $(firstword $(MAKEFILE_LIST)) | \
		column -t -s @
	@echo
	@echo "Variables: KDIR or KVER or KERNEL=6.1|6.12|debug|kcsan (kernel to build for),"
	@echo "BUILD (default build/), DESTDIR, PREFIX (default /usr/local), V=1"
