# The PTX machine and the stand-in for libcuda.so.1 on top of it: test doubles, never shipped.

PTX_OUT := $(BUILD)/ptx

# Nothing here is part of wick: glibc, position-independent, nothing exported unless it says so.
CFLAGS_PTX := $(CFLAGS_ALL) -O2 -g -fPIC -fvisibility=hidden -pthread
# What computes 32 lanes at a time is for the vectoriser; nobody reads errno or floating traps.
LANES_PTX  := -O3 -fno-math-errno -fno-trapping-math

$(PTX_OUT)/%.o: tests/ptx/%.c Makefile tests/ptx/ptx.mk
	$(call say,CC-PTX,$<)
	@mkdir -p $(@D)
	$(Q)$(GNU_CC) $(CFLAGS_PTX) $(if $(filter tests/ptx/lanes%.c tests/ptx/tensor.c,$<),$(LANES_PTX)) -c $< -o $@

ptx_objects = $(patsubst tests/ptx/%.c,$(PTX_OUT)/%.o,$(1))

# --- the machine ------------------------------------------------------------------------------

# A file is a program's main, a part of the stand-in, or a part of the machine.
PTX_MAINS   := $(wildcard tests/ptx/test_*.c tests/ptx/run_*.c)
STANDIN_SRC := $(wildcard tests/ptx/standin*.c)
MACHINE_SRC := $(filter-out $(PTX_MAINS) $(STANDIN_SRC),$(wildcard tests/ptx/*.c))

# --- the stand-in -----------------------------------------------------------------------------

$(PTX_OUT)/libcuda.so.1: $(call ptx_objects,$(STANDIN_SRC) $(MACHINE_SRC))
	$(call say,LD,$@)
	$(Q)$(GNU_CC) -shared -pthread -Wl,-soname,libcuda.so.1 -Wl,-z,defs -o $@ $^ $(LDLIBS)

# Loads the library it is given, as wick does: knows nothing of what is behind it.
$(PTX_OUT)/test_standin: $(PTX_OUT)/test_standin.o
	$(call say,LD,$@)
	$(Q)$(GNU_CC) -pthread -o $@ $^ -ldl

# The machine by itself.
$(PTX_OUT)/test_machine: $(call ptx_objects,$(wildcard tests/ptx/test_machine*.c) $(MACHINE_SRC))
	$(call say,LD,$@)
	$(Q)$(GNU_CC) -pthread -o $@ $^ $(LDLIBS)

# --- the test vectors -------------------------------------------------------------------------

$(PTX_OUT)/run_vectors: $(PTX_OUT)/run_vectors.o
	$(call say,LD,$@)
	$(Q)$(GNU_CC) -o $@ $^ -ldl

# LIBCUDA=/path/libcuda.so.1 where the loader does not find the driver's own.
LIBCUDA ?= libcuda.so.1

.PHONY: gpu-vectors
gpu-vectors: $(PTX_OUT)/run_vectors ## record on a real GPU what the PTX machine is tested with
	$(Q)$< $(LIBCUDA) tests/ptx/vectors record

PTX_PROGRAMS := $(PTX_OUT)/libcuda.so.1 $(PTX_OUT)/test_standin $(PTX_OUT)/run_vectors \
                $(PTX_OUT)/test_machine

.PHONY: ptx-machine
ptx-machine: $(PTX_PROGRAMS) ## build the PTX machine and the stand-in for libcuda.so.1

-include $(wildcard $(PTX_OUT)/*.d)
