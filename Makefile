# wick: build, test, install, run. `make help` lists the targets.
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
MODEL   ?= $(or $(model),images/tales-4m-Q8_0.gguf)

MUSL_CC ?= musl-gcc
GNU_CC  ?= gcc
AR      ?= ar

# V=1 shows commands instead of one short line for each; make -s shows neither.
Q   := $(if $(filter 1,$(V)),,@)
say  = $(if $(and $(Q),$(if $(findstring s,$(firstword -$(MAKEFLAGS))),,1)),@printf '  %-7s %s\n' $(1) $(2))

# run and check build with all processors unless the caller says how many jobs (-j).
parallel = $(MAKE) --no-print-directory $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc))

# --- flags ------------------------------------------------------------------------------------

# No contraction of a * b + c anywhere: a fused multiply-add is written where it is meant, so that
# the same source gives the same bits with every instruction set. The prefix map makes __FILE__, and
# so the binary, the same in every directory.
INCLUDES   := -Isrc -Ihost -I.
CFLAGS_ALL := -std=c11 -Wall -Wextra -Wconversion -Werror -D_GNU_SOURCE $(INCLUDES) \
              -ffp-contract=off -ffile-prefix-map=$(CURDIR)=. -MMD -MP
# musl-gcc does not see the kernel's headers; -idirafter keeps glibc's own out of the way.
CFLAGS_MUSL := $(CFLAGS_ALL) -fno-pie -fstack-protector-strong -ffunction-sections \
               -fdata-sections -fno-asynchronous-unwind-tables \
               -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu
# AMX tiles are the processor's where it has them, else software's: so that AMX kernels are tested
# on every processor with AVX-512 and its BF16. What depends on it is compiled anew when it changes.
TILES := $(if $(shell grep -lw amx_bf16 /proc/cpuinfo),hardware,software)
TILES_FLAGS := $(if $(filter software,$(TILES)),-Itests/tiles)
CFLAGS_SANITIZE := $(TILES_FLAGS) $(CFLAGS_ALL) -O1 -g -fno-omit-frame-pointer \
                   -fsanitize=address,undefined -fno-sanitize-recover=undefined
# BearSSL's objects call it of the library that stands before them: src/secret/bearssl_shim.c.
LDFLAGS_MUSL := -Wl,--undefined=__memcpy_chk -static -no-pie -Wl,--gc-sections -Wl,-z,noexecstack -Wl,--build-id=none
# Names of static functions are left out: 15 KB; build/debug has them.
LDFLAGS_WICK := -static -no-pie -Wl,--gc-sections -Wl,--discard-all -Wl,-z,noexecstack -Wl,--build-id=sha1 \
                -Wl,-T,linker/wick.ld
LDLIBS       := -lm

# HMAC and SHA-256: five objects of Debian's libbearssl.a, by its path, as musl-gcc looks for
# libraries in musl's own directories only.
BEARSSL := $(firstword $(wildcard /usr/lib/$(shell uname -m)-linux-gnu/libbearssl.a \
             /usr/lib/libbearssl.a /usr/local/lib/libbearssl.a) -lbearssl)
LDLIBS  += $(BEARSSL)

# Rooms that wait more than they compute are compiled for size.
COLD  := src/base/% src/model/model.c src/model/geometry.c src/cuda/% src/wire/% boot/% \
         src/secret/% src/gguf/gguf%.c src/engine/engine.c src/engine/pin.c src/engine/plan.c \
         src/engine/scheduler.c src/engine/job.c src/engine/kv_pages.c src/token/vocab_load.c \
         src/token/presplit.c src/token/special.c src/token/chat_format.c src/main.c \
         src/cpu/fast%.c src/cpu/cpu.c src/cpu/isa.c src/cpu/exact%.c src/engine/text_stream.c \
         src/engine/event_queue.c src/token/vocab.c src/cpu/team.c
# Kernels say themselves what is a vector. Nothing is aligned: that is 6 KB, and measured no slower.
speed = $(if $(filter $(COLD),$(1)),-Os,-O2 -fno-align-jumps -fno-align-labels -fno-align-functions -fno-align-loops)$(if $(filter src/cpu/kernels_%,$(1)), -fno-tree-vectorize)

# Files named for an instruction set are compiled for it; who calls them has asked the processor.
FLAGS_avx2   := -mavx2 -mfma -mf16c
FLAGS_avx512 := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c
FLAGS_amx    := $(FLAGS_avx512) -mavx512bf16 -mamx-tile -mamx-int8
# Files named for a thread run on glibc's (src/cuda/foreign.h): nothing there may look for a guard,
# or for anything else, in musl's thread-local storage.
FLAGS_thread := -ffreestanding -fno-stack-protector
named_flags   = $(foreach name,avx2 avx512 amx thread,\
                $(if $(filter %_$(name).c,$(1)),$(FLAGS_$(name))))

# --- sources ----------------------------------------------------------------------------------

LIB_SRC  := $(sort $(filter-out %_fuzz.c,$(wildcard src/*/*.c)))
TILE_SRC := src/cpu/isa.c $(wildcard src/cpu/*_amx.c host/lab/*_amx.c)
MAIN_SRC := $(wildcard src/main.c)
BOOT_SRC := $(sort $(wildcard boot/*.c))
LAB_SRC  := $(sort $(wildcard host/lab/*.c))
CTL_SRC  := $(sort $(wildcard host/wickctl/*.c))
SHOW_SRC := $(sort $(wildcard host/show/*.c))
UNIT_SRC := $(sort $(wildcard tests/unit/*.c))
# What the unit tests test of the tools.
HOST_PURE := $(SHOW_SRC) $(addprefix host/lab/,keys.c session.c windows.c) \
             $(addprefix host/wickctl/,chat_style.c conversation.c \
             editor.c history.c json.c profile_file.c text.c)

musl_objects  = $(patsubst %.c,$(BUILD)/obj/musl/%.o,$(1))
debug_objects = $(patsubst %.c,$(BUILD)/obj/debug/%.o,$(1))

# A program is built as soon as it has a main.
has_main  = $(if $(1),$(shell grep -l '^int main' $(1)))
PROGRAMS := $(if $(MAIN_SRC),wick) $(if $(call has_main,$(LAB_SRC)),wick-lab) \
            $(if $(call has_main,$(CTL_SRC)),wickctl)
MISSING  := $(filter-out $(PROGRAMS),wick wick-lab wickctl)

# --- programs ---------------------------------------------------------------------------------

.PHONY: all
all: $(addprefix $(BUILD)/,$(PROGRAMS)) ## build wick, wick-lab and wickctl (static, musl)
	$(if $(MISSING),@echo "  skipped for want of a main: $(MISSING)")

.PHONY: toolchain
toolchain:
	@command -v $(MUSL_CC) >/dev/null || { echo "$(MUSL_CC) is missing; run: make deps-build"; exit 1; }

$(BUILD)/obj/musl/%.o: %.c Makefile | toolchain
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(MUSL_CC) $(CFLAGS_MUSL) $(call speed,$<) $(call named_flags,$<) $(FILE_FLAGS) \
	    -c $< -o $@

$(BUILD)/obj/debug/%.o: %.c Makefile
	$(call say,CC-SAN,$<)
	@mkdir -p $(@D)
	$(Q)$(GNU_CC) $(CFLAGS_SANITIZE) $(call named_flags,$<) $(FILE_FLAGS) -c $< -o $@

$(BUILD)/obj/debug/tiles-$(TILES):
	@mkdir -p $(@D)
	@rm -f $(@D)/tiles-*
	@touch $@

# An archive is made anew, so that the object of a source that is gone is gone too.
$(BUILD)/obj/%/libwick.a:
	$(call say,AR,$@)
	@rm -f $@
	$(Q)$(AR) rcsD $@ $^
$(BUILD)/obj/musl/libwick.a: $(call musl_objects,$(LIB_SRC))
$(BUILD)/obj/debug/libwick.a: $(call debug_objects,$(LIB_SRC) $(BOOT_SRC) \
                                $(if $(TILES_FLAGS),$(wildcard tests/tiles/*.c)))
$(call debug_objects,$(TILE_SRC)): $(BUILD)/obj/debug/tiles-$(TILES)

# wick takes every object, not what an archive search would pick: the linker script decides what
# stays (a PTX blob is named by nobody). wick.sym has the symbols, for debuggers and tests; what is
# shipped has none, which is 30 KB less.
$(BUILD)/wick.sym: $(call musl_objects,$(MAIN_SRC) $(LIB_SRC) $(BOOT_SRC)) linker/wick.ld
	$(call say,LD,$@)
	$(Q)$(MUSL_CC) $(LDFLAGS_WICK) -Wl,-Map,$(@:.sym=.map) $(filter %.o,$^) $(LDLIBS) -o $@
$(BUILD)/wick: $(BUILD)/wick.sym
	$(Q)strip -s -o $@ $<

$(BUILD)/wick-lab: $(call musl_objects,$(LAB_SRC) $(SHOW_SRC)) $(BUILD)/obj/musl/libwick.a
	$(call say,LD,$@)
	$(Q)$(MUSL_CC) $(LDFLAGS_MUSL) -Wl,-Map,$@.map $^ $(LDLIBS) -o $@

$(BUILD)/wickctl: $(call musl_objects,$(CTL_SRC) $(SHOW_SRC)) $(BUILD)/obj/musl/libwick.a
	$(call say,LD,$@)
	$(Q)$(MUSL_CC) $(LDFLAGS_MUSL) -Wl,-Map,$@.map $^ $(LDLIBS) -o $@

.PHONY: debug
debug: $(addprefix $(BUILD)/debug/,$(PROGRAMS)) ## build all three with glibc, ASan and UBSan in build/debug

$(BUILD)/debug/wick: $(call debug_objects,$(MAIN_SRC))
$(BUILD)/debug/wick-lab: $(call debug_objects,$(LAB_SRC) $(SHOW_SRC))
$(BUILD)/debug/wickctl: $(call debug_objects,$(CTL_SRC) $(SHOW_SRC))
$(BUILD)/debug/%: $(BUILD)/obj/debug/libwick.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(GNU_CC) -fsanitize=address,undefined $(filter %.o,$^) $< -lpthread $(LDLIBS) -o $@

# --- tests ------------------------------------------------------------------------------------

$(BUILD)/unit: $(call debug_objects,$(UNIT_SRC) $(HOST_PURE)) $(BUILD)/obj/debug/libwick.a
	$(call say,LD,$@)
	$(Q)$(GNU_CC) -fsanitize=address,undefined $^ -lcriterion -lpthread $(LDLIBS) -o $@

.PHONY: unit
unit: $(BUILD)/unit ## run the unit tests (Criterion, glibc, ASan and UBSan)
	$(Q)BUILD=$(BUILD) tests/unit/run.sh

.PHONY: check
check: deps-check ## install what is missing, build everything, run every test
	$(Q)$(parallel) all debug $(BUILD)/unit $(PTX_PROGRAMS) $(KERNEL_PROGRAMS) $(GPU_RATES) $(SIM_PROGRAMS) fuzz-replay
	$(Q)BUILD=$(BUILD) tests/check.sh

.PHONY: check-slow
check-slow: deps-check ## boot disks through UEFI, other buses and the own kernel in QEMU; 1000 jobs over bad cables
	$(Q)$(parallel) all
	$(Q)BUILD=$(BUILD) tests/system/run.py --slow
	$(Q)BUILD=$(BUILD) tests/qemu/run.py --slow

# The shape of TinyLlama 1.1B with random weights, 1.2 GB: what a model that fits no cache costs. A
# vocabulary of 32000 tokens where there is one, else the demo model's.
BENCH_MODEL := $(BUILD)/bench-1b-Q8_0.gguf
BENCH_VOCAB := $(firstword $(wildcard ../shared/vocab/llama-spm.gguf) images/tales-4m-Q8_0.gguf)

.PHONY: bench
bench: all $(BENCH_MODEL) ## measure decode and prompt speed: MODEL= (the demo model) and a 1.1B shape
	$(Q)$(BUILD)/wick-lab bench model=$(MODEL)
	$(Q)$(BUILD)/wick-lab bench model=$(BENCH_MODEL)
$(BENCH_MODEL): | $(BUILD)/wick-lab
	$(call say,MODEL,$@)
	$(Q)$(BUILD)/wick-lab make-model out=$@ vocab_from=$(BENCH_VOCAB) type=Q8_0 dim=2048 ffn=5632 \
	    layers=22 heads=32 kv_heads=4 head_dim=64 ctx_train=2048

.PHONY: bench-boot
bench-boot: deps-check all ## measure power-on to READY in QEMU against an init that does nothing
	$(Q)BUILD=$(BUILD) tests/qemu/boot_time.py

# One stamp a source, so that lint runs in parallel and only over what changed.
FORMATTED := $(LIB_SRC) $(MAIN_SRC) $(BOOT_SRC) $(LAB_SRC) $(CTL_SRC) $(SHOW_SRC) $(UNIT_SRC) \
             $(wildcard src/*/*_fuzz.c tests/fuzz/*.c src/*/*.h src/*/*/*.h src/*/*.inc boot/*.h host/*/*.h tests/unit/*.h \
             tests/simulate/*.[ch] tests/tiles/*.c tests/tiles/*/*.h)
LINTED    := $(patsubst %.c,$(BUILD)/obj/lint/%.ok,$(filter-out tests/simulate/%,$(filter %.c,$(FORMATTED))))

.PHONY: lint
lint: deps-lint ## clang-format and clang-tidy, no finding allowed
	$(Q)clang-format --dry-run -Werror $(FORMATTED)
	$(Q)$(parallel) lint-tidy
.PHONY: lint-tidy
lint-tidy: $(LINTED)
	@echo "lint: no finding in $(words $(LINTED)) sources"
$(BUILD)/obj/lint/%.ok: %.c .clang-tidy $(filter %.h %.inc,$(FORMATTED))
	$(call say,TIDY,$<)
	@mkdir -p $(@D)
	$(Q)clang-tidy --quiet $< -- -std=c11 -D_GNU_SOURCE $(INCLUDES) $(call named_flags,$<) 2>$@.log
	@touch $@

# --- use --------------------------------------------------------------------------------------

.PHONY: run
run: deps-build ## serve MODEL= (the demo model) and talk to it
	$(Q)$(parallel) all
	$(Q)BUILD=$(BUILD) host/demo.sh $(MODEL)

.PHONY: deps-build deps-check deps-lint
deps-build: ; $(Q)tests/deps.sh build ## install what building needs (Debian packages)
deps-check: ; $(Q)tests/deps.sh build check image boot ## install what testing needs
deps-lint:  ; $(Q)tests/deps.sh build check lint ## install what linting needs

include src/cuda/cuda.mk images/images.mk
-include kernels/kernels.mk tests/ptx/ptx.mk tests/simulate/simulate.mk tests/bench/bench.mk
-include tests/fuzz/fuzz.mk tests/gpu/gpu.mk

# What the programs say of themselves: manual pages, and completion for bash and zsh.
SAID_BY_wick     := $(BUILD)/wick-lab
SAID_BY_wick-lab := $(BUILD)/wick-lab
SAID_BY_wickctl  := $(BUILD)/wickctl
PAGES := $(addprefix $(BUILD)/man/,wick.8 wick-lab.1 wickctl.1)
SHELL_WORDS := $(foreach p,wick wick-lab wickctl,$(BUILD)/completion/$(p).bash \
                 $(BUILD)/completion/_$(p))

.PHONY: man
man: $(PAGES) ## write the manual pages wick(8), wickctl(1) and wick-lab(1)
.SECONDEXPANSION:
$(PAGES): $(BUILD)/man/%: $$(SAID_BY_$$(basename $$*))
	$(call say,MAN,$@)
	@mkdir -p $(@D)
	$(Q)$< man $(filter-out wickctl,$(basename $*)) >$@
$(BUILD)/completion/%.bash: $$(SAID_BY_$$*)
	@mkdir -p $(@D)
	$(Q)$< completion bash $(filter-out wickctl,$*) >$@
$(BUILD)/completion/_%: $$(SAID_BY_$$*)
	@mkdir -p $(@D)
	$(Q)$< completion zsh $(filter-out wickctl,$*) >$@

SBOM := $(BUILD)/wick.spdx $(BUILD)/NOTICES
.PHONY: sbom
sbom: $(SBOM) ## write what the programs are made of: wick.spdx (SPDX 2.3) and NOTICES (licences)
$(SBOM) &: $(addprefix $(BUILD)/,$(PROGRAMS)) host/sbom.sh
	$(call say,SBOM,$@)
	$(Q)host/sbom.sh $(BUILD) $(PROGRAMS)

SHARE := $(DESTDIR)$(PREFIX)/share
.PHONY: install
install: all $(PAGES) $(SHELL_WORDS) $(SBOM) ## copy programs, manual pages, completion and licences to $(DESTDIR)$(PREFIX)
	install -d $(DESTDIR)$(PREFIX)/bin $(SHARE)/man/man1 $(SHARE)/man/man8
	install -d $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions
	install -m 755 $(addprefix $(BUILD)/,$(PROGRAMS)) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(filter %.1,$(PAGES)) $(SHARE)/man/man1
	install -m 644 $(filter %.8,$(PAGES)) $(SHARE)/man/man8
	install -d $(SHARE)/doc/wick
	install -m 644 LICENSE $(SBOM) $(SHARE)/doc/wick
	for p in wick wick-lab wickctl; do \
	    install -m 644 $(BUILD)/completion/$$p.bash $(SHARE)/bash-completion/completions/$$p && \
	    install -m 644 $(BUILD)/completion/_$$p $(SHARE)/zsh/site-functions/_$$p || exit 1; \
	done

.PHONY: clean
clean: ## remove everything that was built
	rm -rf $(BUILD)

.PHONY: help
help: ## show this list
	@sed -nE 's/^([a-z][a-z-]*):.*## (.*)/  make \1\t\2/p' $(filter-out %.d,$(MAKEFILE_LIST)) | expand -t 20

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
