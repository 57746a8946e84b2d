# On a machine with an NVIDIA GPU. Where there is none, both say so and end well.
# WICK_LIBCUDA=/path/libcuda.so.1 where the driver lies in no usual place.

.PHONY: gpu-check
gpu-check: ## test wick on this machine's GPU, against the driver's own libcuda
	$(Q)$(parallel) all $(PTX_OUT)/run_vectors $(KERNEL_PROGRAMS)
	$(Q)BUILD=$(BUILD) tests/gpu/check.py
