# On a machine with an NVIDIA GPU. Where there is none, both say so and end well.
# WICK_LIBCUDA=/path/libcuda.so.1 where the driver lies in no usual place.

GPU_RATES := $(BUILD)/gpu/rates
$(GPU_RATES): $(call kernel_test_objects,tests/gpu/rates.c tests/kernels/device.c src/base/clock.c \
              src/base/log.c src/base/panic.c)
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(GNU_CC) -o $@ $^ -ldl

.PHONY: gpu-check gpu-bench
gpu-check: ## test wick on this machine's GPU, against the driver's own libcuda
	$(Q)$(parallel) all $(PTX_OUT)/run_vectors $(KERNEL_PROGRAMS)
	$(Q)BUILD=$(BUILD) tests/gpu/check.py

gpu-bench: ## measure wick on this machine's GPU: 1B, 7B and 8B shapes, four types
	$(Q)$(parallel) all $(GPU_RATES)
	$(Q)BUILD=$(BUILD) tests/gpu/bench.py
